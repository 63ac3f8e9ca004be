"""The apps behind the gateway: real servers, each before the same tree of files."""
import pathlib
import shutil
import subprocess

from processes import free_ports

HERE = pathlib.Path(__file__).resolve().parent
MARKER = b"SECRET-"
# No other answer has this length: it betrays the secret in an answer to HEAD.
LENGTH = 4099
JAVA = pathlib.Path("/usr/share/java")
# A chunk of 2^64 bytes that breaks off lets Werkzeug's own server fill the memory.
PYTHON_LIMIT = ["prlimit", f"--as={1 << 30}"]
TOMCAT = pathlib.Path("/usr/share/tomcat10")


class App:
    """echoes: shows the headers that it got at /public/echo and /private/echo. counts: tells at /public/served how often it served
    the secret. folds_case: takes /Private for /private, for which a public / beside it is no protection (docs/configuration.md).
    least: with fewer odd ways to the secret in 5,000 requests, a green run would say little."""

    def __init__(self, name, echoes=False, counts=False, folds_case=False, least=20):
        self.name, self.echoes, self.counts, self.folds_case, self.least = name, echoes, counts, folds_case, least
        self.port = 0
        self.host = f"{name}.test"


class Group:
    """The apps of one process."""

    def __init__(self, start, *apps, needs=()):
        self.start, self.apps, self.needs = start, apps, needs


def make_tree(work, name):
    root = work / "trees" / name
    (root / "public").mkdir(parents=True)
    (root / "private").mkdir()
    (root / "private/secret").write_bytes(f"SECRET-{name}\n".encode().ljust(LENGTH, b"."))
    (root / "public/page").write_bytes(b"the public page\n")
    return root


def start_nginx(processes, name, servers):
    work = processes.work
    temporary = " ".join(f"{kind}_temp_path {work}/tmp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (work / f"{name}.conf").write_text(f"""
user root; worker_processes 1; daemon off; pid {work}/{name}.pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off; keepalive_requests 1000000; default_type text/plain; underscores_in_headers on;
    server_names_hash_bucket_size 128; {temporary}
    {servers}
}}
""")
    return processes.start(name, [shutil.which("nginx"), "-p", work, "-c", work / f"{name}.conf"])


def nginx(processes, root, ports):
    static, tomcat, twice, to_tomcat, to_gunicorn = ports
    start_nginx(processes, "nginx", f"""
    server {{ listen 127.0.0.1:{static}; root {root}; }}
    # Decodes, merges slashes and resolves dots, and escapes anew what it passes on.
    server {{ listen 127.0.0.1:{tomcat}; location / {{ proxy_pass http://127.0.0.1:{to_tomcat}/; }} }}
    # A usual mistake: what is passed on is decoded, and the app decodes it again.
    server {{ listen 127.0.0.1:{twice}; location / {{ proxy_pass http://127.0.0.1:{to_gunicorn}$uri$is_args$args; }} }}
""")


def apache(processes, root, ports):
    work, (plain, slashes) = processes.work, ports
    modules = pathlib.Path("/usr/lib/apache2/modules")
    names = ["mpm_event", "authz_core", "mime"]
    load = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names)
    (work / "apache.conf").write_text(f"""{load}
ServerRoot {work}
ServerName localhost
PidFile {work}/apache.pid
DefaultRuntimeDir {work}
Mutex file:{work} default
ErrorLog {work}/apache-errors.log
TypesConfig /dev/null
User nobody
Group nogroup
Listen 127.0.0.1:{plain}
Listen 127.0.0.1:{slashes}
MaxKeepAliveRequests 0
DocumentRoot {root}
<Directory {root}>
    Require all granted
</Directory>
<VirtualHost 127.0.0.1:{plain}>
</VirtualHost>
<VirtualHost 127.0.0.1:{slashes}>
    AllowEncodedSlashes On
</VirtualHost>
""")
    processes.start("apache", [shutil.which("apache2"), "-DFOREGROUND", "-f", work / "apache.conf"])


def caddy(processes, root, ports):
    work = processes.work
    (work / "Caddyfile").write_text(f"""{{
    admin off
    auto_https off
}}
http://:{ports[0]} {{
    bind 127.0.0.1
    root * {root}
    file_server
}}
""")
    command = [shutil.which("caddy"), "run", "--config", work / "Caddyfile", "--adapter", "caddyfile"]
    processes.start("caddy", command, HOME=str(work), XDG_DATA_HOME=str(work), XDG_CONFIG_HOME=str(work))


def node(processes, root, ports):
    processes.start("node", ["node", HERE / "apps/plain.js", root, *ports])


def express(processes, root, ports):
    processes.start("express", ["node", HERE / "apps/express.js", root, *ports], NODE_PATH=str(tools() / "node_modules"),
                    NODE_ENV="production")


def python_app(name):
    def start(processes, root, ports):
        processes.start(name, [*PYTHON_LIMIT, tools() / "venv/bin/python", HERE / f"apps/{name}_app.py", root, ports[0]])

    return start


def gunicorn(processes, root, ports):
    processes.start("gunicorn", [
        *PYTHON_LIMIT, tools() / "venv/bin/gunicorn", "-b", f"127.0.0.1:{ports[0]}", "--worker-class", "gthread", "--threads", "4",
        "--keep-alive", "60", "--no-control-socket", "--chdir", HERE / "apps", "flask_app:app"], ROOT=str(root))


def go(processes, root, ports):
    binary = processes.work / "go-app"
    subprocess.run(["go", "build", "-o", binary, HERE / "apps/main.go"], check=True)
    processes.start("go", [binary, root, *ports])


def tomcat(processes, root, ports):
    base = processes.work / "tomcat"
    base.mkdir()
    classes = f"{TOMCAT}/lib/*:{TOMCAT}/bin/*"
    processes.start("tomcat", ["java", "-Xmx256m", "-cp", classes, HERE / "apps/TomcatApp.java", root, base, *ports])


def jetty(processes, root, ports):
    names = ["server", "servlet", "http", "io", "util", "security", "util-ajax"]
    classes = ":".join([f"{JAVA}/jetty9-{name}.jar" for name in names] + [f"{JAVA}/servlet-api.jar"])
    processes.start("jetty", ["java", "-Xmx256m", "-cp", classes, HERE / "apps/JettyApp.java", root, *ports])


def tools():
    """Where run.sh has put what no package of Debian holds."""
    return HERE.parent.parent / "target/differential"


# Those that others need come first.
GROUPS = [
    Group(tomcat, App("tomcat", echoes=True), App("tomcat-passthrough"), App("tomcat-decode")),
    Group(gunicorn, App("gunicorn", echoes=True, counts=True)),
    Group(nginx, App("nginx"), App("nginx-tomcat", echoes=True), App("nginx-twice", echoes=True),
          needs=["tomcat-decode", "gunicorn"]),
    Group(apache, App("apache"), App("apache-slashes")),
    Group(caddy, App("caddy")),
    Group(node, App("node-url", echoes=True, counts=True), App("node-parse", echoes=True, counts=True)),
    Group(express, App("express", echoes=True, counts=True),
          App("express-route", echoes=True, counts=True, folds_case=True, least=3)),
    Group(python_app("flask"), App("flask", echoes=True, counts=True)),
    Group(python_app("django"), App("django", echoes=True, counts=True)),
    Group(python_app("aiohttp"), App("aiohttp", echoes=True, counts=True)),
    Group(go, App("go-mux", echoes=True, counts=True), App("go-files", echoes=True, counts=True)),
    Group(jetty, App("jetty", echoes=True), App("jetty-legacy", echoes=True)),
]


def start(processes, only):
    """Starts the groups of the named apps, all without a name; the apps of these groups that were named."""
    known = [app for group in GROUPS for app in group.apps]
    unknown = set(only) - {app.name for app in known}
    if unknown:
        raise SystemExit(f"no such app: {', '.join(sorted(unknown))} (there are: {', '.join(app.name for app in known)})")
    groups = [group for group in GROUPS if not only or any(app.name in only for app in group.apps)]
    needed = {name for group in groups for name in group.needs}
    for group in GROUPS:
        if group not in groups and any(app.name in needed for app in group.apps):
            groups.append(group)
    by_name = {app.name: app for app in known}
    for group in sorted(groups, key=GROUPS.index):
        for app, port in zip(group.apps, free_ports(len(group.apps))):
            app.port = port
        ports = [app.port for app in group.apps] + [by_name[name].port for name in group.needs]
        group.start(processes, make_tree(processes.work, group.apps[0].name), ports)
    started = [app for group in groups for app in group.apps]
    for app in started:
        processes.await_port(app.port)
    return [app for app in started if not only or app.name in only]

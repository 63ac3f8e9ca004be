"""The apps behind the gateway: real servers, each before the same tree of files. Further ones are in scripted.py."""
import pathlib
import shutil
import subprocess

import scripted
from app import HERE, LIMITED, App, Group, make_tree, tools
from processes import free_ports

JAVA = pathlib.Path("/usr/share/java")
TOMCAT = pathlib.Path("/usr/share/tomcat10")


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
        processes.start(name, [*LIMITED, tools() / "venv/bin/python", HERE / f"apps/{name}_app.py", root, ports[0]])

    return start


def gunicorn(processes, root, ports):
    processes.start("gunicorn", [
        *LIMITED, tools() / "venv/bin/gunicorn", "-b", f"127.0.0.1:{ports[0]}", "--worker-class", "gthread", "--threads", "4",
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
          App("express-route", echoes=True, counts=True, has_aliases=True, least=3)),
    Group(python_app("flask"), App("flask", echoes=True, counts=True)),
    Group(python_app("django"), App("django", echoes=True, counts=True)),
    Group(python_app("aiohttp"), App("aiohttp", echoes=True, counts=True)),
    Group(go, App("go-mux", echoes=True, counts=True), App("go-files", echoes=True, counts=True)),
    Group(jetty, App("jetty", echoes=True), App("jetty-legacy", echoes=True)),
    *scripted.GROUPS,
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
        root = make_tree(processes.work, group.apps[0].name)
        for app, port in zip(group.apps, free_ports(len(group.apps))):
            app.port, app.root = port, root
        ports = [app.port for app in group.apps] + [by_name[name].port for name in group.needs]
        group.start(processes, root, ports)
    started = [app for group in groups for app in group.apps]
    for app in started:
        processes.await_port(app.port)
    return [app for app in started if not only or app.name in only]

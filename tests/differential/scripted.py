"""More apps: PHP, Python, Ruby, Perl and Node frameworks, and small servers of files."""
import pathlib
import shutil

from app import HERE, LIMITED, App, Group, tools
from processes import free_ports

FRONT = HERE / "apps/front.php"


def venv(name):
    return tools() / "venv/bin" / name


def unpacked(name):
    """A server whose package would start a service: run.sh only unpacks it."""
    return tools() / "unpacked/usr/sbin" / name


def web_root(processes, name):
    """A document root in which there is only the front controller."""
    web = processes.work / f"{name}-web"
    web.mkdir()
    shutil.copy(FRONT, web / "index.php")
    return web


def php(processes, root, ports):
    """PHP's own server, twice: files, with a script for what is no file; and a front controller for all."""
    files, front = ports
    for name in ("public", "private"):
        shutil.copy(FRONT, root / name / "index.php")
    command = [*LIMITED, "php", "-S"]
    settings = dict(ROOT=str(root), PATH_FROM="uri", PHP_CLI_SERVER_WORKERS="4")
    processes.start("php", [*command, f"127.0.0.1:{files}", "-t", root], **settings)
    web = web_root(processes, "php")
    processes.start("php-front", [*command, f"127.0.0.1:{front}", "-t", web, web / "index.php"], **settings)


def apache_php(processes, root, ports):
    """mod_php with a front controller that takes the path from PATH_INFO, as Symfony does, and from what mod_rewrite tells."""
    work, modules = processes.work, pathlib.Path("/usr/lib/apache2/modules")
    web = web_root(processes, "apache-php")
    load = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so"
                     for name in ("mpm_prefork", "authz_core", "mime", "dir", "rewrite", "env"))
    hosts = "".join(f"""
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
    AllowEncodedSlashes NoDecode
    SetEnv PATH_FROM {path_from}
    {rule}
</VirtualHost>""" for port, path_from, rule in zip(ports, ("info", "symfony", "redirect"), (
        'RewriteEngine On\n    RewriteRule "^(.*)$" "/index.php$1" [L,QSA]', "FallbackResource /index.php",
        f'<Directory {web}>\n    RewriteEngine On\n    RewriteRule "!^index.php" "/index.php" [L,QSA]\n    </Directory>')))
    (work / "apache-php.conf").write_text(f"""{load}
LoadModule php_module {next(modules.glob("libphp*.so"))}
ServerRoot {work}
ServerName localhost
PidFile {work}/apache-php.pid
DefaultRuntimeDir {work}
Mutex file:{work} default
ErrorLog {work}/apache-php-errors.log
TypesConfig /dev/null
User nobody
Group nogroup
StartServers 4
MaxKeepAliveRequests 0
DocumentRoot {web}
SetEnv ROOT {root}
<Directory {web}>
    Require all granted
    AcceptPathInfo On
    AddType application/x-httpd-php .php
</Directory>
{hosts}
""")
    processes.start("apache-php", [shutil.which("apache2"), "-DFOREGROUND", "-f", work / "apache-php.conf"])


def apache_dav(processes, root, ports):
    """WebDAV, which names a second path in `Destination`. What could remove the public page is denied."""
    work, modules = processes.work, pathlib.Path("/usr/lib/apache2/modules")
    locks = work / "apache-dav"
    locks.mkdir()
    for path in (locks, root, *root.rglob("*")):
        path.chmod(0o777)
    load = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in ("mpm_event", "authz_core", "dav", "dav_fs"))
    (work / "apache-dav.conf").write_text(f"""{load}
ServerRoot {work}
ServerName localhost
PidFile {work}/apache-dav.pid
DefaultRuntimeDir {work}
Mutex file:{work} default
ErrorLog {work}/apache-dav-errors.log
User nobody
Group nogroup
Listen 127.0.0.1:{ports[0]}
MaxKeepAliveRequests 0
DocumentRoot {root}
DAVLockDB {locks}/locks
<Directory {root}>
    Dav On
    <Limit GET OPTIONS PROPFIND COPY>
        Require all granted
    </Limit>
    <LimitExcept GET OPTIONS PROPFIND COPY>
        Require all denied
    </LimitExcept>
</Directory>
""")
    processes.start("apache-dav", [shutil.which("apache2"), "-DFOREGROUND", "-f", work / "apache-dav.conf"])


def fastcgi(processes, root, name):
    """PHP as FastCGI, as php-fpm speaks it; its port."""
    port = free_ports(1)[0]
    processes.start(f"{name}-cgi", [*LIMITED, "php-cgi", "-b", f"127.0.0.1:{port}"], ROOT=str(root), PHP_FCGI_CHILDREN="4",
                    PHP_FCGI_MAX_REQUESTS="1000000")
    processes.await_port(port)
    return port


def nginx_php(processes, root, ports):
    from apps import start_nginx

    web, to = web_root(processes, "nginx-php"), fastcgi(processes, root, "nginx-php")
    common = f"""root {web}; try_files $uri /index.php$is_args$args;
        location ~ [^/]\\.php(/|$) {{
            try_files /index.php =404; fastcgi_pass 127.0.0.1:{to}; fastcgi_split_path_info ^(.+?\\.php)(/.*)?$;
            fastcgi_param SCRIPT_FILENAME {web}/index.php; fastcgi_param SCRIPT_NAME $fastcgi_script_name;
            fastcgi_param REQUEST_URI $request_uri; fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param QUERY_STRING $query_string; fastcgi_param SERVER_PROTOCOL $server_protocol;"""
    info = common.replace("try_files $uri /index.php$is_args$args", "rewrite ^(/(?!index\\.php).*)$ /index.php$1 last").replace(
        "try_files /index.php =404;", "")
    start_nginx(processes, "nginx-php", f"""
    server {{ listen 127.0.0.1:{ports[0]}; {common} fastcgi_param PATH_FROM symfony; }} }}
    server {{ listen 127.0.0.1:{ports[1]}; {info} fastcgi_param PATH_INFO $fastcgi_path_info; fastcgi_param PATH_FROM info; }} }}
""")


def lighttpd(processes, root, ports):
    """Files: as it is, and with all that it refuses or tidies switched off; PHP with a front controller."""
    plain, lenient, scripts = ports
    web, to = web_root(processes, "lighttpd"), fastcgi(processes, root, "lighttpd")
    for name, port, document_root, more in [
        ("lighttpd", plain, root, ""),
        ("lighttpd-lenient", lenient, root, 'server.http-parseopts = ("header-strict" => "disable", "host-strict" => "disable", '
         '"url-normalize" => "disable", "url-normalize-required" => "disable", "url-ctrls-reject" => "disable")'),
        ("lighttpd-php", scripts, web, 'url.rewrite-once = ("^(.*)$" => "/index.php$1")\n'
         f'fastcgi.server = (".php" => (("host" => "127.0.0.1", "port" => {to}, "broken-scriptfilename" => "enable")))'),
    ]:
        config = processes.work / f"{name}.conf"
        config.write_text(f'server.document-root = "{document_root}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
                          f'server.modules = ("mod_rewrite", "mod_fastcgi")\nserver.max-keep-alive-requests = 1000000\n{more}\n')
        processes.start(name, [unpacked("lighttpd"), "-D", "-f", config, "-m", unpacked("../lib/lighttpd")])


def haproxy(processes, root, ports):
    """Routes by the beginning of the path to an app that decodes it: as it was sent, and normalized."""
    plain, normal, to = ports
    config = processes.work / "haproxy.cfg"
    config.write_text("global\n    expose-experimental-directives\ndefaults\n    mode http\n    timeout connect 5s\n"
                      "    timeout client 60s\n    timeout server 60s\n" + "".join(f"""
frontend f{port}
    bind 127.0.0.1:{port}
    {rules}
    use_backend app if {{ path_beg /public }} or {{ path_beg /private }}
""" for port, rules in ((plain, ""), (normal, "\n    ".join("http-request normalize-uri " + rule for rule in (
        "percent-decode-unreserved", "path-merge-slashes", "path-strip-dot", "path-strip-dotdot full"))))) + f"""
backend app
    server app 127.0.0.1:{to}
""")
    processes.start("haproxy", [unpacked("haproxy"), "-db", "-f", config],
                    LD_LIBRARY_PATH=str(tools() / "unpacked/usr/lib/x86_64-linux-gnu"))


def busybox(processes, root, ports):
    processes.start("busybox", ["busybox", "httpd", "-f", "-p", f"127.0.0.1:{ports[0]}", "-h", root])


def site_packages():
    return next((tools() / "venv/lib").glob("python3*/site-packages"))


def uwsgi(processes, root, ports):
    """Flask under uWSGI: its parser, and its router before it; files that uWSGI serves by itself."""
    parser, router, static = ports
    for name, more in [
        ("uwsgi", ["--http-socket", f"127.0.0.1:{parser}"]),
        ("uwsgi-router", ["--http", f"127.0.0.1:{router}", "--http-keepalive"]),
        ("uwsgi-static", ["--http-socket", f"127.0.0.1:{static}", "--check-static", root]),
    ]:
        processes.start(name, [*LIMITED, "uwsgi-core", "--plugins", "http,python3", "--need-app", "--master", "--die-on-term",
                               "--disable-logging", "--threads", "4", "--buffer-size", "65535", "--pythonpath", HERE / "apps",
                               "--pythonpath", site_packages(), "--module", "flask_app:app", *more], ROOT=str(root))


def asgi(processes, root, ports):
    """Starlette's StaticFiles under uvicorn with both of its parsers, and under hypercorn."""
    in_apps = dict(ROOT=str(root), PYTHONPATH=str(HERE / "apps"))
    for parser, port in zip(("httptools", "h11"), ports):
        processes.start(f"uvicorn-{parser}", [*LIMITED, venv("uvicorn"), "starlette_app:app", "--port", port, "--http", parser,
                                              "--log-level", "critical", "--proxy-headers", "--forwarded-allow-ips", "*"], **in_apps)
    processes.start("hypercorn", [*LIMITED, venv("hypercorn"), "starlette_app:app", "-b", f"127.0.0.1:{ports[2]}"], **in_apps)


def waitress(processes, root, ports):
    processes.start("waitress", [*LIMITED, venv("waitress-serve"), "--listen", f"127.0.0.1:{ports[0]}", "flask_app:app"],
                    ROOT=str(root), PYTHONPATH=str(HERE / "apps"))


def python_server(name):
    def start(processes, root, ports):
        processes.start(name, [*LIMITED, venv("python"), HERE / "apps/servers.py", name, root, ports[0]])

    return start


def ruby(processes, root, ports):
    puma, webrick, sinatra = ports
    for name, port, rack in (("puma", puma, "config.ru"), ("sinatra", sinatra, "sinatra.ru")):
        command = ["puma", "-q", "-e", "production", "-b", f"tcp://127.0.0.1:{port}"]
        processes.start(name, [*command, HERE / "apps" / rack], ROOT=str(root))
    command = ["rackup", "-q", "-s", "webrick", "-E", "none", "-o", "127.0.0.1", "-p", webrick]
    processes.start("webrick", [*command, HERE / "apps/config.ru"], ROOT=str(root))


def starman(processes, root, ports):
    processes.start("starman", ["starman", "--listen", f"127.0.0.1:{ports[0]}", "--workers", "4", "-E", "deployment",
                                HERE / "apps/files.psgi"], ROOT=str(root))


def node_frameworks(processes, root, ports):
    processes.start("frameworks", ["node", HERE / "apps/frameworks.js", root, *ports], NODE_PATH=str(tools() / "node_modules"),
                    NODE_ENV="production")


GROUPS = [
    Group(php, App("php", echoes=True), App("php-front", echoes=True)),
    Group(apache_php, *(App(name, echoes=True, has_aliases=True) for name in ("apache-php", "apache-symfony", "apache-rewrite"))),
    Group(apache_dav, App("apache-dav")),
    Group(nginx_php, App("nginx-symfony", echoes=True, has_aliases=True), App("nginx-php", echoes=True, has_aliases=True)),
    Group(lighttpd, App("lighttpd"), App("lighttpd-lenient"), App("lighttpd-php")),
    Group(haproxy, App("haproxy", echoes=True), App("haproxy-normal", echoes=True), needs=["gunicorn"]),
    Group(busybox, App("busybox")),
    Group(uwsgi, App("uwsgi", echoes=True, counts=True), App("uwsgi-router", echoes=True, counts=True),
          App("uwsgi-static", echoes=True)),
    Group(asgi, *(App(name, echoes=True, counts=True) for name in ("uvicorn", "uvicorn-h11", "hypercorn"))),
    Group(waitress, App("waitress", echoes=True, counts=True)),
    Group(python_server("python-http"), App("python-http")),
    Group(python_server("tornado"), App("tornado", echoes=True)),
    Group(python_server("twisted"), App("twisted", echoes=True, least=0)),
    Group(ruby, App("puma", echoes=True), App("webrick", echoes=True), App("sinatra", echoes=True)),
    Group(starman, App("starman", echoes=True, least=3)),
    Group(node_frameworks, App("fastify", echoes=True, least=0), App("koa", echoes=True), App("serve-handler")),
]

"""What stands before the apps: Doorward, or a proxy that is naive on purpose.

Each app has three hosts. On the open one the public /public lies in a protected /. On the closed one the protected /private lies in
a public /. On the based one all that there is is /app, which is public and stands for the app's /public."""
import copy
import json
import pathlib
import re
import subprocess
import sys
import urllib.request

import wire
from apps import start_nginx
from processes import free_ports

HERE = pathlib.Path(__file__).resolve().parent
USER = b"robot"


class Front:
    def __init__(self, name, port, process):
        self.name, self.port, self.process = name, port, process
        self.credential, self.tls_port = b"", 0

    def is_alive(self):
        return self.process.poll() is None


KINDS = OPEN, CLOSED, BASED = "open", "closed", "based"


class Side:
    """One of the hosts of an app."""

    def __init__(self, app, kind):
        self.app, self.kind = app, kind
        self.host = f"{app.name}.{kind}.test"
        self.public = "/app" if kind == BASED else "/public"

    def sees(self, request):
        """The request as it is asked here."""
        target = request.target()
        if self.kind != BASED or not target.startswith("/public"):
            return request
        asked = copy.copy(request)
        asked.pieces = [self.public, target.removeprefix("/public")]
        return asked


def sides_of(app):
    return [Side(app, kind) for kind in KINDS if kind != CLOSED or not app.has_aliases]


class Doorward(Front):
    def __init__(self, processes, binary, apps):
        port, tls_port, self.admin = free_ports(3)
        key, lines = self._key(binary)
        config = processes.work / "doorward.yaml"
        config.write_text(self._config(port, self._tls(processes, tls_port), self.admin, apps) + lines)
        process = processes.start("doorward", [binary, "run", "-c", config])
        super().__init__("doorward", port, process)
        self.tls_port = tls_port
        self.credential = b"X-Api-Key: " + key.encode()
        self.log = lambda: processes.log("doorward")
        processes.await_port(port)

    def is_alive(self):
        if not super().is_alive():
            return False
        with urllib.request.urlopen(f"http://{wire.HOST}:{self.admin}/livez", timeout=10) as answer:
            return answer.status == 200

    @staticmethod
    def _key(binary):
        made = subprocess.run([binary, "api-key"], capture_output=True, text=True, check=True).stdout
        lines = made[made.index("api_keys:"):].replace("CHANGE-ME", USER.decode())
        return re.search(r"dwk_\S+", made)[0], lines

    @staticmethod
    def _tls(processes, port):
        """HTTP/2 is spoken over TLS alone."""
        certificate, key = processes.work / "tls.pem", processes.work / "tls.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=test", "-out", certificate, "-keyout", key], check=True, capture_output=True)
        return f"{{address: 127.0.0.1:{port}, tls: {{certificate: {certificate}, private_key: {key}}}}}"

    @staticmethod
    def _config(port, tls, admin, apps):
        protected = "auth: {accept: [api_key], on_unauthenticated: reject}, headers: {set: {X-Team: \"team of {user}\"}}"
        public = "auth: public"
        rules = {OPEN: [("/", "", protected), ("/public", "", public)], CLOSED: [("/", "", public), ("/private", "", protected)],
                 BASED: [("/app", "/public", public)]}
        routes = []
        for side in (side for app in apps for side in sides_of(app)):
            upstream = f"upstream: {{timeout: 5s, strip_prefix: {str(side.kind == BASED).lower()}}}"
            for path, base, rule in rules[side.kind]:
                ends = f'from: "http://{side.host}{path}", to: "http://127.0.0.1:{side.app.port}{base}"'
                routes.append(f"  - {{name: r{len(routes)}, {ends}, {upstream}, {rule}}}")
        return "\n".join([
            f"listen: [127.0.0.1:{port}, {tls}]", f"admin: {{address: 127.0.0.1:{admin}}}",
            "store: {backend: memory}", "workers: 2", "logging: {access: none}", "limits: {unknown_tokens: {enabled: false}}",
            "routes:", *routes, ""])


def naive_nginx(processes, apps):
    """Rules by `location`; what is passed on is the path as it was sent."""
    port = free_ports(1)[0]
    servers = []
    for side in (side for app in apps for side in sides_of(app)):
        passed, denied = f"proxy_pass http://127.0.0.1:{side.app.port}", "return 401;"
        rules = {
            OPEN: f"location /public {{ {passed}; }} location / {{ {denied} }}",
            CLOSED: f"location / {{ {passed}; }} location /private {{ {denied} }}",
            BASED: f"location /app {{ {passed}/public; }} location / {{ {denied} }}",
        }
        servers.append(f"server {{ listen 127.0.0.1:{port}; server_name {side.host}; {rules[side.kind]} }}")
    common = "proxy_set_header Host $http_host; proxy_read_timeout 5s;"
    process = start_nginx(processes, "naive-nginx", "\n    ".join([common, *servers]))
    processes.await_port(port)
    return Front("naive-nginx", port, process)


def naive_prefix(processes, apps):
    """Compares the beginning of the path as it was sent."""
    port = free_ports(1)[0]
    table = {side.host: [side.kind, side.app.port] for app in apps for side in sides_of(app)}
    process = processes.start("naive-prefix", [sys.executable, HERE / "naive.py", port, json.dumps(table)])
    processes.await_port(port)
    return Front("naive-prefix", port, process)

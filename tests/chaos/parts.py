"""The processes of a run: replicas, the provider, and the app, which lives in this process. Each is ended by its own id."""
import asyncio
import ctypes
import glob
import json
import os
import signal
import subprocess
import time

from web import Broken, ask

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
HOST = "app.localhost"
ADMIN_TOKEN = "admin-token-of-the-chaos-run"
CLIENT_SECRET = "client-secret-of-the-chaos-run"
STORE_SECRET = "store-secret-of-the-chaos-run-32-bytes-or-more"
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"

# Shorter than the defaults, so that ten minutes hold many of each; README.md has the bounds that follow.
PROVIDER_TIMEOUT, LEASE, COPIES, COMMAND, COOLDOWN = 2.0, 4.0, 3.0, 1.0, 1.0
PATIENCE = PROVIDER_TIMEOUT + 1
PAUSE = 5.0  # after a try that failed, which no setting changes


def spawn(words, out, **more):
    """A process that ends with this one, however this one ends. Its output is added to the file `out`."""
    with open(out, "ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, preexec_fn=end_with_parent, **more)


def end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Replica:
    """`life` counts its processes: what one of them held in memory the next does not know."""

    def __init__(self, name, folder, port, admin, binary, config):
        self.name, self.folder, self.port, self.admin, self.binary = name, folder, port, admin, binary
        self.config, self.process, self.old, self.life, self.clock = config, None, [], 0, None
        os.makedirs(folder, exist_ok=True)
        self.write()

    def write(self, more=""):
        with open(f"{self.folder}/config.yaml", "w") as file:
            file.write(self.config(self) + more)

    @property
    def log(self):
        return f"{self.folder}/log"

    @property
    def serving(self):
        """Its life; nobody's while two processes share its port."""
        return -1 if any(p.poll() is None for p in self.old) else self.life

    def pids(self):
        return [p.pid for p in [self.process, *self.old] if p and p.poll() is None]

    def spawn(self, *more):
        environment = {"RUST_BACKTRACE": "1"}
        library = glob.glob(FAKETIME)
        if self.clock and library:
            environment |= {"LD_PRELOAD": library[0], "FAKETIME": self.clock, "DONT_FAKE_MONOTONIC": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        self.process = spawn([self.binary, "run", "-c", "config.yaml", *more], self.log, cwd=self.folder,
                             env=environment, stdin=subprocess.DEVNULL)
        self.life += 1

    async def upgrade(self):
        """A new process takes the listeners over while the old one serves; whether it did."""
        old = self.process
        self.old.append(old)
        self.spawn("--upgrade")
        old.send_signal(signal.SIGQUIT)
        return await ended(old, 60)

    def send(self, number):
        self.process.send_signal(number)

    async def ask_admin(self, path, method="GET", limit=3.0):
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        return await ask(self.admin, method, path, f"127.0.0.1:{self.admin}", headers, limit=limit)

    async def is_ready(self):
        try:
            return (await self.ask_admin("/readyz")).status == 200
        except Broken:
            return False

    async def metrics(self):
        """Name with its labels to value."""
        lines = (await self.ask_admin("/metrics")).body.decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}

    async def metric(self, name):
        return (await self.metrics()).get(name, 0.0)

    async def slow_commands(self):
        """How many calls to the store had no answer in COMMAND, which is a second."""
        told = await self.metrics()
        whole = sum(value for name, value in told.items() if name.startswith("doorward_store_operation_seconds_count"))
        quick = sum(value for name, value in told.items()
                    if name.startswith('doorward_store_operation_seconds_bucket{le="1.0"'))
        return whole - quick

    def end(self):
        for process in [self.process, *self.old]:
            if process and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


async def ended(process, limit):
    for _ in range(int(limit * 20)):
        if process.poll() is not None:
            return True
        await asyncio.sleep(0.05)
    return False


class Provider:
    """tests/oidc_provider/server.mjs with the memory of provider/kept.mjs: it may be killed and forgets nothing."""

    def __init__(self, folder, port, issuer, settings):
        self.folder, self.port, self.issuer, self.settings = folder, port, issuer, settings
        self.process, self.read_to = None, 0
        os.makedirs(folder)

    async def start(self, **more):
        environment = {**os.environ, "PORT": str(self.port), "ISSUER": self.issuer, "KEPT": self.folder,
                       "OIDC_CONFIG": json.dumps(self.settings), **more}
        words = [node(), "--import", f"{HERE}/provider/register.mjs", f"{ROOT}/tests/oidc_provider/server.mjs"]
        # Its standard input stays open as long as this process lives: it ends with it.
        self.process = spawn(words, f"{self.folder}/out", env=environment, stdin=subprocess.PIPE)
        for _ in range(400):
            try:
                await asyncio.wait_for(self.state(), 1)
                return self
            except (Broken, TimeoutError):
                await asyncio.sleep(0.05)
        raise RuntimeError(f"the provider does not start: see {self.folder}/out")

    async def state(self, **change):
        body = json.dumps(change).encode() if change else b""
        answer = await ask(self.port, "PUT" if change else "GET", "/test/state", f"127.0.0.1:{self.port}", body=body)
        return json.loads(answer.body)

    def events(self):
        """What it has written to its log since the last call."""
        try:
            with open(f"{self.folder}/log", "rb") as file:
                file.seek(self.read_to)
                lines = file.read()
        except OSError:
            return []
        whole = lines[:lines.rfind(b"\n") + 1]
        self.read_to += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def node():
    """The one of PATH, or, where that is too old, the one that test.sh keeps in the target folder."""
    for path in ["node", *glob.glob(f"{ROOT}/target/node/node_modules/node-*/bin/node")]:
        try:
            told = subprocess.run([path, "-p", "process.versions.node"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        if int(told.stdout.split(".")[0]) >= 20:
            return path
    raise RuntimeError("no Node 20 or newer: run ./test.sh once")


class App:
    """Answers with who it was told. `/stream` sends an event twice a second for as long as somebody reads."""

    def __init__(self):
        self.server, self.lies, self.connections = None, None, set()

    async def start(self, port):
        self.port = port
        await self.open()
        return self

    async def open(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)

    def close(self):
        self.server.close()
        for writer in list(self.connections):
            writer.transport.abort()

    async def serve(self, reader, writer):
        self.connections.add(writer)
        try:
            while (line := await reader.readline()).strip():
                headers = {}
                while (field := (await reader.readline()).strip()):
                    name, _, value = field.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                await reader.readexactly(int(headers.get("content-length", 0)))
                if line.split()[1].startswith(b"/stream"):
                    await self.stream(writer)
                    return
                told = {"user": self.lies or headers.get("x-forwarded-user")}
                body = json.dumps(told).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the end of the run, too
        finally:
            self.connections.discard(writer)
            writer.transport.abort()

    @staticmethod
    async def stream(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            event = b"data: %d\n\n" % time.time()
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.5)

"""Redis in its three forms, on loopback, behind relays that the replicas are told of in its place."""
import asyncio
import os
import subprocess

from parts import spawn
from relay import Relay, free_port

SLOTS = 16384
NODES = 3
KEEPS = "save ''\nappendonly yes\nappendfsync no\nrepl-diskless-sync-delay 0\n"


class Refused(Exception):
    """What Redis answers in place of a value."""


async def read_reply(reader):
    line = (await reader.readline()).rstrip(b"\r\n")
    if not line:
        raise ConnectionError("closed")
    kind, rest = line[:1], line[1:]
    if kind == b"-":
        raise Refused(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else (await reader.readexactly(int(rest) + 2))[:-2]
    if kind == b"*":
        return [await read_reply(reader) for _ in range(int(rest))]
    return rest


async def command(port, *commands, limit=3.0):
    """The answers to these commands, on one connection that goes around all relays."""
    async with asyncio.timeout(limit):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            answers = []
            for words in commands:
                words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
                writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
                answers.append(await read_reply(reader))
            return answers
        finally:
            writer.transport.abort()


class Server:
    """One process, on a port and in a folder that it keeps; `text` is its configuration, which sentinels rewrite."""

    def __init__(self, folder, port, text, sentinel=False):
        self.folder, self.port, self.sentinel, self.process = folder, port, sentinel, None
        os.makedirs(folder)
        with open(f"{folder}/conf", "w") as file:
            file.write(f"port {port}\nbind 127.0.0.1\ndir {folder}\nenable-debug-command local\n" if not sentinel else
                       f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
            file.write(text)

    def spawn(self):
        words = ["redis-server", f"{self.folder}/conf"] + (["--sentinel"] if self.sentinel else [])
        self.process = spawn(words, f"{self.folder}/out", stdin=subprocess.DEVNULL)

    async def start(self):
        self.spawn()
        await self.answers()
        return self

    async def answers(self):
        for _ in range(300):
            try:
                await command(self.port, ["PING"], limit=1)
                return
            except (OSError, Refused, TimeoutError):
                await asyncio.sleep(0.05)
        raise RuntimeError(f"redis on port {self.port} does not answer: see {self.folder}/out")

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Redis:
    """`servers` hold data, `relays` stand before what replicas are told of; by the same index, sentinels after them."""

    def __init__(self, mode):
        self.mode, self.servers, self.sentinels, self.relays = mode, [], [], []

    @staticmethod
    async def start(mode, folder, pids):
        redis = Redis(mode)
        await {"standalone": redis.standalone, "cluster": redis.cluster, "sentinel": redis.watched}[mode](folder, pids)
        return redis

    async def before(self, server, pids):
        relay = await Relay(f"redis{len(self.relays)}", server.port, pids).start(free_port())
        self.relays.append(relay)
        return relay

    async def standalone(self, folder, pids):
        self.servers.append(await Server(f"{folder}/redis", free_port(), KEEPS).start())
        await self.before(self.servers[0], pids)

    async def cluster(self, folder, pids):
        for n in range(NODES):
            port, bus = free_port(), free_port()
            relay = await Relay(f"redis{n}", port, pids).start(free_port())
            text = (f"cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 2000\ncluster-announce-ip 127.0.0.1\n"
                    f"cluster-require-full-coverage no\ncluster-announce-port {relay.port}\n"
                    f"cluster-announce-bus-port {bus}\n")
            self.relays.append(relay)
            server = Server(f"{folder}/redis{n}", port, KEEPS + text)
            server.bus = bus
            self.servers.append(await server.start())
        for n, server in enumerate(self.servers):
            first, last = SLOTS * n // NODES, SLOTS * (n + 1) // NODES - 1
            await command(server.port, ["CLUSTER", "SET-CONFIG-EPOCH", n + 1],
                          ["CLUSTER", "ADDSLOTSRANGE", first, last])
        for other in self.servers[1:]:
            await command(self.servers[0].port, ["CLUSTER", "MEET", "127.0.0.1", other.port, other.bus])
        await self.until_whole()

    async def watched(self, folder, pids):
        first = await Server(f"{folder}/redis0", free_port(), KEEPS).start()
        relay = await self.before(first, pids)
        port = free_port()
        second = Server(f"{folder}/redis1", port, KEEPS)
        own = await self.before(second, pids)
        with open(f"{second.folder}/conf", "a") as file:
            file.write(f"replicaof 127.0.0.1 {relay.port}\nreplica-announce-ip 127.0.0.1\n"
                       f"replica-announce-port {own.port}\n")
        await command(first.port, ["CONFIG", "SET", "replica-announce-ip", "127.0.0.1"],
                      ["CONFIG", "SET", "replica-announce-port", relay.port], ["CONFIG", "REWRITE"])
        self.servers = [first, await second.start()]
        for n in range(NODES):
            text = (f"sentinel monitor main 127.0.0.1 {relay.port} 2\nsentinel down-after-milliseconds main 1000\n"
                    f"sentinel failover-timeout main 4000\n")
            self.sentinels.append(await Server(f"{folder}/sentinel{n}", free_port(), text, sentinel=True).start())
            await self.before(self.sentinels[-1], pids)
        await self.until_whole()

    async def until_whole(self, limit=60):
        """All parts know each other and agree."""
        for _ in range(limit * 5):
            try:
                if await self.is_whole():
                    return True
            except (OSError, TimeoutError, Refused):
                pass
            await asyncio.sleep(0.2)
        return False

    async def is_whole(self):
        if self.mode == "standalone":
            return (await command(self.servers[0].port, ["PING"]))[0] == b"PONG"
        if self.mode == "cluster":
            told = [(await command(s.port, ["CLUSTER", "INFO"], ["CLUSTER", "NODES"])) for s in self.servers]
            return all(b"cluster_state:ok" in info and nodes.count(b"connected") == NODES
                       and b"disconnected" not in nodes and b"fail" not in nodes
                       for info, nodes in told)
        roles = [(await command(s.port, ["INFO", "replication"]))[0] for s in self.servers]
        masters = [role for role in roles if b"role:master" in role]
        followers = [role for role in roles if b"master_link_status:up" in role]
        for sentinel in self.sentinels:
            told = (await command(sentinel.port, ["SENTINEL", "MASTER", "main"]))[0]
            told = dict(zip(told[::2], told[1::2]))
            if told[b"flags"] != b"master" or told[b"num-slaves"] != b"1" or told[b"num-other-sentinels"] != b"2":
                return False
        return len(masters) == 1 and len(followers) == 1

    async def master(self):
        """Of a watched pair, the index of the one that takes writes now; else 0."""
        for n, server in enumerate(self.servers) if self.mode == "sentinel" else ():
            try:
                if b"role:master" in (await command(server.port, ["INFO", "replication"], limit=1))[0]:
                    return n
            except (OSError, TimeoutError, Refused):
                continue
        return 0

    def settings(self):
        if self.mode == "sentinel":
            ports, more = [relay.port for relay in self.relays[2:]], ", master_name: main"
        else:
            ports, more = [relay.port for relay in self.relays], ""
        urls = ", ".join(f'"redis://127.0.0.1:{port}/0"' for port in ports)
        return f"urls: [{urls}], mode: {self.mode}{more}"

    async def contents(self):
        """Every key and every value, of each server, as bytes."""
        for server in self.servers:
            cursor = b"0"
            while True:
                (cursor, keys), = await command(server.port, ["SCAN", cursor, "COUNT", 500])
                for key in keys:
                    yield key, await self.value(server, key)
                if cursor == b"0":
                    break

    @staticmethod
    async def value(server, key):
        try:
            kind = (await command(server.port, ["TYPE", key]))[0]
            if kind == b"set":
                return b" ".join((await command(server.port, ["SMEMBERS", key]))[0])
            return (await command(server.port, ["GET", key]))[0] or b""
        except Refused:
            return b""

    async def empty(self):
        for server in self.servers:
            try:
                await command(server.port, ["FLUSHALL"])
            except Refused:
                pass  # one that only follows

    def end(self):
        for server in self.servers + self.sentinels:
            server.kill()

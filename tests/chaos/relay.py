"""Between the replicas and what they call: a relay knows which process a connection comes from, and can hold, delay, cut or
silently lose what it carries, for one replica or for all."""
import asyncio
import os
import random
import socket
import struct
import time

OTHERS = "others"
TAKEN = set()
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST = 4, 20, 1


class Way:
    """What happens now to one client's connections."""

    def __init__(self):
        self.refuses, self.holds, self.delay = False, False, 0.0


class Connection:
    """Two ends, and what is on its way between them. Protocols rather than streams: a busy machine has little time for this."""

    def __init__(self, relay, client, way):
        self.relay, self.client, self.way, self.silent = relay, client, way, False
        self.ends = []
        relay.open.add(self)

    def abort(self):
        self.relay.open.discard(self)
        for end in self.ends:
            end.transport.abort()

    def held(self):
        for end in self.ends:
            if self.way.holds or len(self.ends) < 2:
                end.transport.pause_reading()
            else:
                end.transport.resume_reading()


class End(asyncio.Protocol):
    def __init__(self, relay, connection=None):
        self.relay, self.connection, self.transport, self.other, self.due = relay, connection, None, None, 0.0

    def connection_made(self, transport):
        self.transport = transport
        if self.connection is None:
            self.relay.accept(self)
        else:
            self.connection.ends.append(self)

    def data_received(self, data):
        if not self.connection.silent and self.other:
            self.later(self.other.transport.write, data)

    def eof_received(self):
        if not self.connection.silent and self.other:
            self.later(self.other.transport.write_eof)
        return True

    def connection_lost(self, _problem):
        if self.connection and not self.connection.silent:
            self.later(self.connection.abort)

    def later(self, what, *arguments):
        """At once, or after the way's delay; never before what came earlier."""
        loop = asyncio.get_running_loop()
        at = max(loop.time() + self.connection.way.delay, self.due)
        self.due = at
        if at <= loop.time():
            self.now(what, *arguments)
        else:
            loop.call_at(at, self.now, what, *arguments)

    def now(self, what, *arguments):
        if self.other and not self.other.transport.is_closing() or what == self.connection.abort:
            try:
                what(*arguments)
            except OSError:
                self.connection.abort()


def inode_of(port, to):
    """Of the socket that is bound to `port` and connected to `to`. The kernel is asked for this one (sock_diag(7)): to search
    /proc/net/tcp for it takes too long on a machine with many connections."""
    address = socket.inet_aton("127.0.0.1") + bytes(12)
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    wanted += struct.pack("!HH", port, to) + address * 2 + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(wanted), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + wanted)
        answer = kernel.recv(4096)
    kind, = struct.unpack_from("=H", answer, 4)
    return struct.unpack_from("=I", answer, 16 + 68)[0] if kind == SOCK_DIAG_BY_FAMILY else None


def owner_of(port, to, pids):
    """The name among `pids` (name to process ids) of the process whose socket this is."""
    inode = inode_of(port, to)
    wanted = f"socket:[{inode}]"
    for name, numbers in pids.items() if inode else ():
        for pid in numbers:
            if wanted in open_files(pid):
                return name
    return OTHERS


def open_files(pid):
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                yield os.readlink(entry.path)
            except OSError:
                continue  # it was closed meanwhile
    except OSError:
        pass  # the process has ended


class Relay:
    def __init__(self, name, to, pids):
        """`to`: a port, or a function that names one now. `pids`: a function, name to process ids."""
        self.name, self.to, self.pids = name, to, pids
        self.ways, self.open, self.server, self.port = {}, set(), None, None
        self.origin = {}  # the port of a connection onwards: whose it is

    async def start(self, port):
        self.port = port
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: End(self), "127.0.0.1", port)
        return self

    def way(self, client):
        return self.ways.setdefault(client, Way())

    def mine(self, client):
        return [c for c in self.open if c.client == client]

    def accept(self, end):
        client = owner_of(end.transport.get_extra_info("peername")[1], self.port, self.pids())
        end.connection = connection = Connection(self, client, self.way(client))
        connection.ends.append(end)
        to = self.to() if callable(self.to) else self.to
        if connection.way.refuses or to is None:
            return connection.abort()
        connection.held()
        self.joining = asyncio.ensure_future(self.join(connection, end, to))
        return None

    async def join(self, connection, end, to):
        try:
            _, onward = await asyncio.get_running_loop().create_connection(
                lambda: End(self, connection), "127.0.0.1", to)
        except OSError:
            return connection.abort()
        end.other, onward.other = onward, end
        self.origin[onward.transport.get_extra_info("sockname")[1]] = (connection.client, time.time())
        if end.transport.is_closing():
            return connection.abort()
        return connection.held()

    # What a fault does, and what ends it.

    def cut(self, client):
        self.way(client).refuses = True
        self.close(client)

    def close(self, client):
        for connection in self.mine(client):
            connection.abort()

    def hold(self, client):
        self.way(client).holds = True
        self.ways_changed(client)

    def ways_changed(self, client):
        for connection in self.mine(client):
            connection.held()

    def slow(self, client, delay):
        self.way(client).delay = delay

    def silence(self, client):
        """Connections that are open carry nothing any more, and nobody is told."""
        for connection in self.mine(client):
            connection.silent = True

    def heal(self, client):
        way = self.way(client)
        way.refuses, way.holds, way.delay = False, False, 0.0
        self.ways_changed(client)

    def heal_all(self):
        for client in self.ways:
            self.heal(client)


def free_port():
    """Below the range from which the kernel gives ports to clients, so that a process that starts again finds its port free."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in TAKEN:
            TAKEN.add(port)
            return port

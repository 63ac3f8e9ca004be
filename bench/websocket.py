"""Messages there and back over WebSockets, the next on a connection when the last is back:

    websocket.py echo ADDRESS                            the app
    websocket.py ask URL CONNECTIONS SECONDS HEADERS     prints messages, messages a second, p50 and p99 in microseconds

Both wait for many sockets at once and look at a whole frame only, so that the proxy between them has most of the work. The
mask is all zeros, which leaves a message as it is."""
import base64, hashlib, selectors, socket, sys, time, urllib.parse

MESSAGE = b"m" * 64
ASKED = b"\x82" + bytes([0x80 | len(MESSAGE)]) + b"\0\0\0\0" + MESSAGE
ECHOED = b"\x82" + bytes([len(MESSAGE)]) + MESSAGE
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
ACCEPT = base64.b64encode(hashlib.sha1((KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def echo(address):
    host, port = address.split(":")
    listener = socket.create_server((host, int(port)), backlog=1024)
    waiting = selectors.EpollSelector()
    waiting.register(listener, selectors.EVENT_READ)
    upgraded, begun = set(), {}
    while True:
        for ready, _ in waiting.select():
            connection = ready.fileobj
            if connection is listener:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting.register(connection, selectors.EVENT_READ)
                continue
            try:
                read = connection.recv(65536)
            except ConnectionError:
                read = b""
            if not read:
                upgraded.discard(connection), begun.pop(connection, None)
                waiting.unregister(connection)
                connection.close()
            elif read == ASKED and connection in upgraded:
                connection.send(ECHOED)
            else:
                answer(connection, begun.pop(connection, b"") + read, upgraded, begun)


def answer(connection, read, upgraded, begun):
    """What seldom comes: heads of requests, and parts of frames."""
    if connection in upgraded:
        whole, rest = divmod(len(read), len(ASKED))
        assert read == ASKED * whole + ASKED[:rest], read
        connection.send(ECHOED * whole)
        begun[connection] = read[len(read) - rest:]
    elif b"\r\n\r\n" not in read:
        begun[connection] = read
    elif b"upgrade: websocket" in read.lower():
        assert f"sec-websocket-key: {KEY}".lower().encode() in read.lower(), read
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\n")
        upgraded.add(connection)
    else:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def opened(url, headers):
    connection = socket.create_connection((url.hostname, url.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(f"GET {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\n"
                       f"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                       f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        read = connection.recv(1)
        assert read, head
        head += read
    assert head.startswith(b"HTTP/1.1 101 ") and ACCEPT.encode() in head, head
    return connection


def ask(url, connections, seconds, headers):
    waiting = selectors.EpollSelector()
    for _ in range(connections):
        connection = opened(url, headers)
        waiting.register(connection, selectors.EVENT_READ, [0, b""])
    begun = time.monotonic()
    for key in waiting.get_map().values():
        key.data[0] = time.monotonic()
        key.fileobj.send(ASKED)
    took, now = [], begun
    while now < begun + seconds:
        ready = waiting.select(5)
        assert ready, "no message came back for 5 seconds"
        for key, _ in ready:
            sent, before = key.data
            read = before + key.fileobj.recv(4096)
            if read != ECHOED:
                assert len(read) > len(before) and ECHOED.startswith(read), read
                key.data[1] = read
                continue
            now = time.monotonic()
            took.append(now - sent)
            key.data[:] = now, b""
            key.fileobj.send(ASKED)
    took.sort()
    print(len(took), len(took) / (now - begun), took[len(took) // 2] * 1e6, took[len(took) * 99 // 100] * 1e6)


if sys.argv[1] == "echo":
    echo(sys.argv[2])
else:
    ask(urllib.parse.urlsplit(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])

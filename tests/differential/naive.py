"""A proxy with the mistake that the suite looks for: it compares the first letters of the path as it was sent, and passes every
header on. naive.py PORT {HOST: [KIND, PORT_OF_APP]}"""
import json
import re
import socketserver
import sys
import time

import wire

PORT, TABLE = int(sys.argv[1]), json.loads(sys.argv[2])
HOST = re.compile(rb"\r\nhost:[ \t]*([^\r:]*)", re.I)
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
LIMIT = 5
LIFE = 3600


def is_refused(target, kind):
    path = target.split(b"?")[0]
    if kind == "closed":
        return path.startswith(b"/private")
    return not path.startswith(b"/public" if kind == "open" else b"/app")


class Client(socketserver.BaseRequestHandler):
    def handle(self):
        source = wire.Connection(self.request, time.monotonic() + LIFE)
        while head := self.head(source):
            words, host = head.split(b"\r\n")[0].split(b" "), HOST.search(head)
            kind, port = TABLE.get(host[1].decode("latin-1") if host else "", ["open", 0])
            body = self.body(source, head)
            if len(words) < 2 or not port or is_refused(words[1], kind):
                self.request.sendall(REFUSED)
                continue
            if kind == "based":
                head = head.replace(b" /app", b" /public", 1)
            answer = self.forward(port, head + b"\r\n\r\n" + body, words[0])
            self.request.sendall(answer)
            return  # where the app's answer ends is the app's affair

    @staticmethod
    def head(source):
        try:
            return source.until(b"\r\n\r\n")
        except (OSError, wire.Silent):
            return None

    @staticmethod
    def body(source, head):
        length = wire.LENGTH.search(head)
        return source.exactly(int(length[1])) if length else source.rest

    @staticmethod
    def forward(port, raw, method):
        try:
            app = wire.Connection.open(port)
            answer = app.exchange(raw, method.upper() != b"HEAD", LIMIT)
            app.close()
        except OSError:
            return b""
        return re.sub(rb"(?i)transfer-encoding:[^\r]*", b"Connection: close", answer.raw())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


with Server((wire.HOST, PORT), Client) as server:
    server.serve_forever()

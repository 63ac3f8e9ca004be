"""Sends bytes and reads answers. No client library is between: each of them tidies what it sends."""
import re
import select
import socket
import time

HOST = "127.0.0.1"
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.I)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.I)
CLOSE = re.compile(rb"\r\nconnection:[^\r]*close", re.I)
# How long an answer to a second request, which the peer found in the first one, may take.
SECOND_ANSWER = 0.003


class Answer:
    """status: 0 where the peer closed the connection and said nothing, -1 where it was silent until the deadline."""

    def __init__(self, status, head=b"", body=b"", is_last=True):
        self.status, self.head, self.body, self.is_last = status, head, body, is_last

    def raw(self):
        return self.head + b"\r\n\r\n" + self.body


class Silent(Exception):
    pass


class Connection:
    def __init__(self, connected, end=0.0):
        self.socket, self.rest, self.end = connected, b"", end

    @classmethod
    def open(cls, port):
        connected = socket.create_connection((HOST, port), timeout=10)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connected)

    def close(self):
        self.socket.close()

    def exchange(self, raw, has_body, seconds):
        """Sends, and reads one answer. `has_body`: false for the answer to HEAD."""
        self.end = time.monotonic() + seconds
        try:
            self.socket.settimeout(seconds)
            self.socket.sendall(raw)
        except TimeoutError:
            return Answer(-1)
        except OSError:
            pass  # the peer may have answered before it closed
        try:
            return self._answer(has_body)
        except Silent:
            return Answer(-1)

    def pending(self):
        """What the peer has sent beyond the answer."""
        while select.select([self.socket], [], [], SECOND_ANSWER)[0]:
            if not self._more():
                break
        rest, self.rest = self.rest, b""
        return rest

    def _answer(self, has_body):
        while True:
            head = self.until(b"\r\n\r\n")
            if head is None or not head.startswith(b"HTTP/"):
                said, self.rest = (head or b"") + self.rest, b""
                return Answer(0 if not said else 1, b"", said)
            status = int(head[9:12]) if head[9:12].isdigit() else 1
            if status >= 200 or status == 101:
                break
        if status == 101:
            return Answer(status, head)
        body, is_last = self._body(head, status, has_body)
        return Answer(status, head, body, is_last or CLOSE.search(head) or head.startswith(b"HTTP/1.0"))

    def _body(self, head, status, has_body):
        if not has_body or status in (204, 304):
            return b"", False
        if CHUNKED.search(head):
            return self._chunks()
        length = LENGTH.search(head)
        if length:
            body = self.exactly(int(length[1]))
            return body, False
        while self._more():
            pass
        body, self.rest = self.rest, b""
        return body, True

    def _chunks(self):
        body = b""
        while True:
            line = self.until(b"\r\n")
            if line is None:
                return body, True
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while self.until(b"\r\n"):
                    pass
                return body, False
            body += self.exactly(size)
            self.exactly(2)

    def until(self, mark):
        while True:
            at = self.rest.find(mark)
            if at >= 0:
                found, self.rest = self.rest[:at], self.rest[at + len(mark):]
                return found
            if not self._more():
                return None

    def exactly(self, count):
        while len(self.rest) < count and self._more():
            pass
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    def _more(self):
        left = self.end - time.monotonic()
        if left <= 0:
            raise Silent
        self.socket.settimeout(left)
        try:
            got = self.socket.recv(65536)
        except TimeoutError:
            raise Silent from None
        except OSError:
            return False
        self.rest += got
        return bool(got)


class Client:
    """One peer, asked on a connection that is kept for as long as the peer keeps it."""

    PROTOCOL = "HTTP/1.1"

    def __init__(self, port, seconds):
        self.port, self.seconds, self.kept = port, seconds, None

    def ask(self, request, host, credential=b""):
        raw = request.raw(host, credential)
        if request.is_alone():
            return self._alone(raw, request.has_answer_body())
        connection, self.kept = self.kept or Connection.open(self.port), None
        was_used = connection.end > 0
        answer = connection.exchange(raw, request.has_answer_body(), self.seconds)
        if answer.status == 0 and was_used:
            # The peer may close an idle connection while the request is on its way.
            connection.close()
            connection = Connection.open(self.port)
            answer = connection.exchange(raw, request.has_answer_body(), self.seconds)
        if answer.is_last or answer.status < 200:
            connection.close()
        else:
            self.kept = connection
        return answer

    @staticmethod
    def may_end(request):
        """Whether the end of the connection is an answer, as where a body breaks off in the middle."""
        return request.is_alone()

    @staticmethod
    def shown(request, host):
        return repr(request.raw(host))

    def _alone(self, raw, has_body):
        connection = Connection.open(self.port)
        answer = connection.exchange(raw, has_body, self.seconds)
        if answer.status > 0:
            try:
                answer.body += connection.pending()
            except Silent:
                pass
        connection.close()
        return answer

    def close(self):
        if self.kept:
            self.kept.close()
        self.kept = None

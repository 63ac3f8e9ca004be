"""Raw HTTP/2 over TLS: what the `h2` package would refuse to send is sent, too. Also what only HTTP/2 can spell oddly."""
import socket
import ssl
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from generate import FORGED, HOST, INNER
from wire import HOST as LOOPBACK
from wire import Answer

STREAMS_OF_A_CONNECTION = 5000
# HTTP/2 has no such fields: each is malformed. One of them at a time is among the twists.
OF_A_CONNECTION = [b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings", b"te", b"transfer-encoding"]


class Message:
    """A request as HTTP/2 has it."""

    def __init__(self, request, host, credential=b""):
        lines = [line for field in [*request.fields, credential] for line in field.split(b"\r\n") if line]
        self.method, self.target = request.method.encode(), request.target().encode()
        self.host, self.body, self.trailers = host.encode(), request.body, []
        length = b"%d" % len(request.body.replace(HOST, self.host))
        self.fields = []
        for line in lines:
            name, _, value = line.replace(b"<ALL>", length).partition(b":")
            if name.lower() not in OF_A_CONNECTION:
                self.fields.append((name.lower(), value.removeprefix(b" ")))
        self.pseudo = [(b":method", self.method), (b":scheme", b"https"), (b":authority", self.host), (b":path", self.target)]
        if request.twist:
            TWISTS[request.twist](self)
        self.pseudo, self.fields, self.trailers = map(self._named, (self.pseudo, self.fields, self.trailers))
        self.body = self.body.replace(HOST, self.host)

    def _named(self, fields):
        return [(name, value.replace(HOST, self.host)) for name, value in fields]

    def set(self, name, value):
        self.pseudo = [(name, value) if own == name else (own, old) for own, old in self.pseudo]

    def without(self, name):
        self.pseudo = [(own, value) for own, value in self.pseudo if own != name]

    def __repr__(self):
        return f"{self.pseudo + self.fields} {self.body!r} {self.trailers or ''}"


def adds(name, value, body=None):
    def twist(message):
        message.fields.append((name, value))
        message.body = message.body if body is None else body

    return twist


def sets(name, change):
    return lambda message: message.set(name, change(message))


def twice(name, value, first):
    def twist(message):
        at = [own for own, _ in message.pseudo].index(name) + (not first)
        message.pseudo.insert(at, (name, value))

    return twist


def trailers(*fields):
    def twist(message):
        message.body, message.trailers = message.body or b"hello", list(fields)

    return twist


def host_alone(value):
    def twist(message):
        message.without(b":authority")
        message.fields.append((b"host", value))

    return twist


def late_pseudo(message):
    message.pseudo, message.fields = [], [*message.fields, (b"x-a", b"b"), *message.pseudo]


def extended_connect(message):
    message.set(b":method", b"CONNECT")
    message.pseudo.append((b":protocol", b"websocket"))


LINE = b" HTTP/1.1\r\nHost: <HOST>\r\n\r\n"
SECOND = b"GET /private/secret" + LINE
CAPITALS = b"X-Forwarded-User"
TWISTS = {
    "host alone": host_alone(HOST), "another host alone": host_alone(b"other.test"),
    "no host": lambda message: message.without(b":authority"),
    "host too": adds(b"host", HOST), "another host too": adds(b"host", b"other.test"), "an empty host too": adds(b"host", b""),
    "authority with a path": sets(b":authority", lambda _: HOST + b"/private/secret?"),
    "authority with a user": sets(b":authority", lambda _: b"u:p@" + HOST),
    "authority with a line": sets(b":authority", lambda _: HOST + b"\r\n\r\n" + SECOND),
    "authority that ends": sets(b":authority", lambda _: HOST + b"#"),
    "no path": lambda message: message.without(b":path"),
    "path before": twice(b":path", b"/public/page", True), "path after": twice(b":path", b"/private/secret", False),
    "an empty path": sets(b":path", lambda _: b""),
    "path without a slash": sets(b":path", lambda message: message.target.lstrip(b"/")),
    "a whole URL": sets(b":path", lambda message: b"http://" + HOST + message.target),
    "a URL that is dotted": sets(b":path", lambda message: b"https://" + HOST + b"/public/.." + message.target),
    "path with a line": sets(b":path", lambda message: message.target + b" HTTP/1.1\r\n\r\n" + SECOND),
    "path with a version": sets(b":path", lambda message: b"/private/secret HTTP/1.1"),
    "path with a blank": sets(b":path", lambda message: message.target + b" /private/secret"),
    "scheme with a path": sets(b":scheme", lambda _: b"http://" + HOST + b"/private/secret?"),
    "another scheme": sets(b":scheme", lambda _: b"file"), "no scheme": lambda message: message.without(b":scheme"),
    "method before": twice(b":method", b"POST", True), "method after": twice(b":method", b"GET", False),
    "method with a line": sets(b":method", lambda _: SECOND + b"GET"),
    "method with a path": sets(b":method", lambda _: b"GET /private/secret HTTP/1.1\r\nX-A:"),
    "extended connect": extended_connect, "connect": sets(b":method", lambda _: b"CONNECT"), "late pseudo": late_pseudo,
    "a made-up pseudo": adds(b":original-path", b"/private/secret"), "capitals": adds(CAPITALS, FORGED),
    "a value with a line": adds(b"x-a", b"b\r\nX-Forwarded-User: " + FORGED),
    "a value with a feed": adds(b"x-a", b"b\nX-Forwarded-User: " + FORGED), "a value with a second": adds(b"x-a", b"b\r\n\r\n" + SECOND),
    "a name with a line": adds(b"x-a: b\r\nx-forwarded-user", FORGED), "a name with a colon": adds(b"x-forwarded-user:", FORGED),
    "a name with a blank": adds(b"x-forwarded-user ", FORGED), "an empty name": adds(b"", FORGED),
    "a name with a tab": adds(b"x-forwarded-user\t", FORGED), "a name with a NUL": adds(b"x-forwarded-user\x00", FORGED),
    "chunked": adds(b"transfer-encoding", b"chunked", b"0\r\n\r\n" + INNER), "xchunked": adds(b"transfer-encoding", b"x", INNER),
    "too short": adds(b"content-length", b"0", INNER), "a little too short": adds(b"content-length", b"5", b"hello" + INNER),
    "too long": adds(b"content-length", b"1000", INNER), "no number": adds(b"content-length", b"0x5", INNER),
    "a length with a sign": adds(b"content-length", b"+0", INNER), "an underscored length": adds(b"content_length", b"0", INNER),
    "two lengths": lambda message: message.fields.extend([(b"content-length", b"0"), (b"content-length", b"5")]),
    "no length": lambda message: setattr(message, "body", INNER),
    "connection": adds(b"connection", b"x-forwarded-user, x-team"), "upgrade": adds(b"upgrade", b"websocket"),
    "te": adds(b"te", b"gzip, trailers"), "proxy-connection": adds(b"proxy-connection", b"keep-alive"),
    "expect": adds(b"expect", b"100-continue", b"hello"),
    "split cookies": lambda message: message.fields.extend([(b"cookie", b"doorward=x"), (b"cookie", b"a=b; __Host-doorward=y")]),
    "trailers": trailers((b"x-forwarded-user", FORGED), (b"x_auth_request_user", FORGED), (b"x-team", FORGED)),
    "trailers with a path": trailers((b":path", b"/private/secret"), (b":authority", HOST)),
    "trailers with a length": trailers((b"content-length", b"0"), (b"transfer-encoding", b"chunked"), (b"host", b"other.test")),
    "trailers with a line": trailers((b"x-a", b"b\r\n\r\n" + SECOND)),
}


def twisted(rng, requests):
    """The same requests; some are spelled as only HTTP/2 can."""
    names = sorted(TWISTS)
    for request in requests:
        request.twist = rng.choice(names) if rng.random() < 0.3 else None
        yield request


class Client:
    """As wire.Client, with one stream after the other on a connection that is kept."""

    PROTOCOL = "HTTP/2"

    def __init__(self, port, seconds):
        self.port, self.seconds, self.kept = port, seconds, None

    def ask(self, request, host, credential=b""):
        message = Message(request, host, credential)
        connection, self.kept = self.kept or Connection(self.port), None
        answer = connection.exchange(message, self.seconds)
        if connection.is_over and connection.streams > 1 and answer.status == 0:
            # The peer may have closed the connection for what was sent before.
            connection = Connection(self.port)
            answer = connection.exchange(message, self.seconds)
        if connection.is_over or answer.status < 0 or connection.streams >= STREAMS_OF_A_CONNECTION:
            connection.close()
        else:
            self.kept = connection
        return answer

    @staticmethod
    def may_end(request):
        """Whether a reset is an answer: HTTP/2 has it for whatever is malformed."""
        is_plain = request.target().startswith("/") and request.method in ("GET", "HEAD")
        return not is_plain or request.is_alone() or bool(request.fields) or bool(request.twist)

    @staticmethod
    def shown(request, host):
        return repr(Message(request, host))

    def close(self):
        if self.kept:
            self.kept.close()
        self.kept = None


class Connection:
    def __init__(self, port):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((LOOPBACK, port), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain)
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(
            header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False, validate_inbound_headers=False))
        self.state.initiate_connection()
        self.state.update_settings({h2.settings.SettingCodes.ENABLE_PUSH: 0})
        self.is_over, self.streams = False, 0

    def close(self):
        self.socket.close()

    def exchange(self, message, seconds):
        end = time.monotonic() + seconds
        self.streams += 1
        try:
            stream = self.state.get_next_available_stream_id()
            body, last = message.body, message.trailers
            self.state.send_headers(stream, message.pseudo + message.fields, end_stream=not body and not last)
            if body:
                self.state.send_data(stream, body, end_stream=not last)
            if last:
                self.state.send_headers(stream, last, end_stream=True)
            self.socket.settimeout(seconds)
            self.socket.sendall(self.state.data_to_send())
            return self._answer(stream, end)
        except TimeoutError:
            self.is_over = True
            return Answer(-1)
        except (OSError, h2.exceptions.ProtocolError):
            self.is_over = True
            return Answer(0)

    def _answer(self, stream, end):
        status, head, body = 0, b"", b""
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            got = self.socket.recv(65536)
            events = self.state.receive_data(got) if got else [h2.events.ConnectionTerminated()]
            self.socket.sendall(self.state.data_to_send())
            is_last = False
            for event in events:
                # A GOAWAY may come before the answer that it does not concern.
                self.is_over |= isinstance(event, h2.events.ConnectionTerminated)
                if getattr(event, "stream_id", None) != stream:
                    is_last |= not got or isinstance(event, h2.events.ConnectionTerminated) and not status
                elif isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                    head = b"HTTP/2\r\n" + b"\r\n".join(name + b": " + value for name, value in event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                    self.state.acknowledge_received_data(event.flow_controlled_length, stream)
                    self.socket.sendall(self.state.data_to_send())
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                    is_last = True
            if is_last:
                return Answer(status, head, body)

"""Makes requests from a seed: paths that some app may read as /private/secret, methods, heads, bodies."""
import urllib.parse

# Stands in the value of each header that no client may set: an app must never see it.
FORGED = b"forged-by-the-client"
# What stands for the name of the host that is asked.
HOST = b"<HOST>"

# In what order an app meets the names. "secret" is in "private" alone.
ROUTES = [
    "/private/secret",
    "/private/secret",
    "/private/secret",
    "/private/secret",
    "/public/../private/secret",
    "/public/../private/secret",
    "/public/x/../../private/secret",
    "/public/x/y/../../../private/secret",
    "/public/x/../../../private/secret",
    "/public/public/../../private/secret",
    "/public/../public/../private/secret",
    "/public/%2e/../private/secret",
    "/public/a%2fb/../../private/secret",
    "/public/a%2fb/c/../../../private/secret",
    "/public/a%5cb/../../private/secret",
    "/public/a;b/../../private/secret",
    "/public//../private/secret",
    "/public//../../private/secret",
    "/x/../private/secret",
    "/x/a%2fb/../../private/secret",
    "/../private/secret",
    "/private/../private/secret",
    "/private/../public/../private/secret",
    "//private/secret",
    "//x/private/secret",
    "//public/private/secret",
    "//127.0.0.1/private/secret",
    "/public/private/secret",
    "/public/secret",
    "/public/page",
]
SLASHES = """// /./ /%2e/ %2f %2F %5c %5C \\ /\\ %252f %255c %25252f /;a=b/ ;x/ /; ;/ /x/../ /x/%2e%2e/ /x/..;/ /a%2fb/%2e%2e/
    /a%2fb/%2e%2e/%2e%2e/ /a%252fb/%2e%2e/ %c0%af %e0%80%af /// /%20/ %2f%2f /%2f /%09 ／ ∕ %ef%bc%8f %u002f %%32f""".split()
SLASHES += ["/\t", "\t/", "/ ", "\n/", "/\x00", "\x0b/"]
UPS = """.. %2e%2e %2e%2e .%2e %2E. ..; ..; ..;a=b %2e%2e;x .;. %252e%252e .%252e %25252e%25252e ..%00 %c0%ae%c0%ae
    %ef%bc%8e%ef%bc%8e ．． ‥ %e2%80%a5 ..%20 ... ..\\ %u002e%u002e ..%3b ..%3bx %%32e%%32e ..%2f ..%5c ..%252f ..%c0%af
    ..%09 ..%0d ..%0a ..? ..%3f ..# ..%23""".split() + [".. ", "..\t"]
TAILS = """? ?a=/public/ ?/../../public/ # #/public/ %3f %23 %3fx %23x / /. /.. // %2f %5c \\ . .. ; ;x=1 ;.html ;/ .json .html ~
    %00 %00.html %20 %20.html %0a %0d%0a %09 ::$DATA /%2e /..;/ /;/ ?x#y &a=b %26 : * % %zz + .; /public/page /../secret
    /../../private/secret""".split()
TAILS += [" ", "\t", " /public/page"]
STARTS = """http://<HOST> http://other.test HTTP://<HOST> https://<HOST> http://<HOST>:80 http://u:p@<HOST> http:// http:/ http:
    //<HOST> ///<HOST> /\\<HOST> /\\\\<HOST> http://<HOST>\\ http://<HOST>/public http://<HOST>?/public http://<HOST>#/public
    http://[::1] ftp://<HOST> file:// * . ; %2f""".split()
SOUP = ["/"] * 6 + ["/public"] * 4 + ["/private"] * 4 + ["secret"] * 4 + ["/secret", "page"] + SLASHES + UPS + TAILS

METHODS = ["GET"] * 24 + ["HEAD"] * 5 + ["POST"] * 5 + ["OPTIONS"] * 3 + ["PUT"] * 2 + ["DELETE"] * 2 + ["PATCH"]
METHODS += ["PROPFIND", "TRACE", "get", "Get", "gET", "post", "head", "GET\t", "X", "QUERY"]
PATHS = ["/private/secret", "/public/page", "/public", "/private", "/", "/public/../private/secret"]
# Headers that some app takes the path, the prefix, the method or the peer from.
PATH_FIELDS = """X-Original-URL X-Rewrite-URL X-Original-URI X-Original-Path X-Forwarded-Prefix X-Forwarded-Uri X-Forwarded-Path
    X-Script-Name SCRIPT_NAME SCRIPT-NAME Script-Name PATH_INFO Path-Info REQUEST_URI Request-Uri X-Request-Uri SCRIPT_URL
    X-Envoy-Original-Path X-Override-Url X-Replaced-Path X-Waws-Unencoded-Url X-Original_URL X_Rewrite_URL X.Original.URL
    X-HTTP-DestinationURL X-Proxy-Url X-Path X-Url Base-Url Destination Content-Location Referer Location Raw-Request-URI
    X-Invoke-Path X-Matched-Path X-Middleware-Rewrite X-Accel-Redirect X-Sendfile REDIRECT_URL Redirect-Url ORIG_PATH_INFO
    PATH_TRANSLATED DOCUMENT_URI UWSGI_FILE UWSGI_SCRIPT DOCUMENT_ROOT SCRIPT_FILENAME Unencoded-Url IIS-WasUrlRewritten""".split()
PREFIX_FIELDS = ["SCRIPT_NAME", "Script-Name", "SCRIPT-NAME", "X-Script-Name", "X-Forwarded-Prefix", "PATH_INFO"]
PREFIXES = ["/public"] * 6 + ["/public/x", "/x", "/app"]
METHOD_FIELDS = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_Method_Override"]
IDENTITY = """X-Forwarded-User X-Forwarded-Email X-Forwarded-Preferred-Username X-Forwarded-Groups X-Auth-Request-User
    X-Auth-Request-Email X-Auth-Request-Groups X-Auth-Request-Access-Token X-WEBAUTH-USER X-WEBAUTH-EMAIL X-WEBAUTH-GROUPS
    Remote-User Remote-Email Remote-Groups X-Real-IP X-Client-IP True-Client-IP CF-Connecting-IP Forwarded X-Forwarded-For
    X-Forwarded-Anything X-Original-Anything X-Rewrite-Anything X-Team""".split()
HEADS = [
    b"Host: other.test", b"Host: <HOST>", b"Host:", b"Host: <HOST>, other.test", b"host: <HOST>:80", b"X-Host: other.test",
    b"Connection: close", b"Connection: X-Forwarded-User, X-Forwarded-For, Cookie", b"Connection: Host", b"Connection: keep-alive",
    b"Connection: Content-Length, Authorization, X-Api-Key, X-Forwarded-Proto", b"Proxy-Connection: keep-alive", b"Keep-Alive: 5",
    b"Upgrade: websocket\r\nConnection: Upgrade", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
    b"Expect: 100-continue", b"TE: trailers", b"Range: bytes=0-8000", b"Accept: text/event-stream", b"Accept: text/html",
    b"If-None-Match: *", b"Cookie: doorward=x; __Host-doorward=y", b"Authorization: Bearer x", b"Authorization: Basic YTpi",
    b"X-Api-Key: dwk_0_0", b"Origin: null", b"Origin: http://<HOST>\r\nAccess-Control-Request-Method: GET",
    b"User-Agent: kube-probe/1.30", b"X-Forwarded-Host: other.test", b"X-Forwarded-Proto: https", b"Max-Forwards: 0",
    b"X-Sendfile-Type: X-Sendfile", b"X-Sendfile-Type: X-Accel-Redirect\r\nX-Accel-Mapping: /=/private/", b"Version: HTTP/1.0",
    b"Front-End-Https: on", b"Surrogate-Capability: a=\"ESI/1.0\"", b"Sec-Fetch-Mode: navigate",
    b"X-Requested-With: XMLHttpRequest", b"Content-Type: application/grpc", b"Via: 1.1 x",
]
ODD_HEADS = [
    b"X-A: b\nHost: other.test", b"X-A: b\r\n folded", b" X-A: b", b"X-A : b", b"Host : other.test", b"X-A", b": b", b"X-A: \x00b",
    b"X-A: b\rX-B: c", b"X-A: \xff\xfe", b"X-(A): b", b"X-A\x00: b", b"Content-Length : 0", b"\tX-A: b", b"X-A: b\x0bc",
]
VERSIONS = [b"HTTP/1.0", b"HTTP/1.1 ", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1\t", b"HTTP/01.1", b"HTTP/0.9", b"HTTP/1"]
INNER = b"GET /private/secret HTTP/1.1\r\nHost: <HOST>\r\nX-Inner: 1\r\n\r\n"
# Fields that say how long the body is, and the body: each is complete, however it is read.
ODD_BODIES = [(fields, b"0\r\n\r\n" + INNER) for fields in [
    b"Content-Length: <ALL>\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: <ALL>",
    b"Content-Length: <ALL>\r\nTransfer-Encoding: xchunked", b"Content-Length: <ALL>\r\nTransfer-Encoding: chunked, identity",
    b"Content-Length: <ALL>\r\nTransfer-Encoding: identity", b"Content-Length: <ALL>\r\nTransfer-Encoding : chunked",
    b"Content-Length: <ALL>\r\nTransfer_Encoding: chunked", b"Content-Length: <ALL>\r\nTransfer-Encoding:\x0bchunked",
    b"Content-Length: <ALL>\r\nX-A: b\nTransfer-Encoding: chunked", b"Content-Length: <ALL>\r\n Transfer-Encoding: chunked",
    b"Content-Length: <ALL>\r\nTransfer-Encoding: \"chunked\"", b"Content-Length: <ALL>\r\nTransfer-Encoding:\r\n chunked",
    b"Content-Length: <ALL>\r\nTransfer-Encoding: CHUNKED", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: chunked\t",
    b"Content-Length: <ALL>\r\nContent-Length: 5", b"Content-Length: 5\r\nContent-Length: <ALL>", b"Content-Length: 5, <ALL>",
    b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: +5", b"Content-Length: 05", b"Content-Length: 0x5",
    b"Content-Length: 5 5", b"Content-Length: -5", b"Content_Length: <ALL>", b"Content-Length:", b"Content-Length: 5\x00",
    b"Connection: Content-Length\r\nContent-Length: <ALL>", b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Content-Length: <ALL>", b"Content-Length: 5", b"Content-Length: 0", b"Expect: 100-continue\r\nContent-Length: <ALL>",
]]
ODD_BODIES += [(b"Transfer-Encoding: chunked", body) for body in [
    b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5;\nhello\r\n0\r\n\r\n" + INNER, b"5\nhello\n0\n\n" + INNER,
    b"0x5\r\nhello\r\n0\r\n\r\n" + INNER, b"5 \r\nhello\r\n0\r\n\r\n" + INNER, b"+5\r\nhello\r\n0\r\n\r\n" + INNER,
    b"-5\r\nhello\r\n0\r\n\r\n" + INNER, b"5\r\nhelloXX0\r\n\r\n" + INNER, b"00000000000000000\r\n\r\n" + INNER,
    b"5\r\nhello\r\n0\r\nX-Forwarded-User: " + FORGED + b"\r\nX_Auth_Request_User: " + FORGED + b"\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: other.test\r\n\r\n" + INNER, b"5;\x00\r\nhello\r\n0\r\n\r\n" + INNER,
    b"10000000000000005\r\nhello\r\n0\r\n\r\n" + INNER, b"5\r\nhello\r\n0\r\n\n" + INNER, b"5\r\rhello\r\n0\r\n\r\n" + INNER,
]]


class Request:
    """`pieces` are the target and `fields` the lines of the head, apart so that a finding can be made smaller."""

    def __init__(self, pieces, method="GET", fields=(), body=b"", version=b"HTTP/1.1", alone=False):
        self.pieces, self.method, self.fields = list(pieces), method, list(fields)
        self.body, self.version, self.alone = body, version, alone
        self.twist = None  # how HTTP/2 spells it oddly: a name in http2.py

    def target(self):
        return "".join(self.pieces)

    def is_alone(self):
        """Whether peers may disagree on where the request or its answer ends; it then has its own connection."""
        return self.alone or bool(self.body) or any(b not in "/.%;?=" and not b.isalnum() for b in self.target())

    def has_answer_body(self):
        return self.method.upper() != "HEAD"

    def raw(self, host, credential=b""):
        line = self.method.encode() + b" " + self.target().encode() + b" " + self.version
        fields = [b"Host: <HOST>", *self.fields] + ([credential] if credential else [])
        raw = b"\r\n".join([line, *fields]) + b"\r\n\r\n" + self.body
        return raw.replace(HOST, host.encode()).replace(b"<ALL>", b"%d" % len(self.body.replace(HOST, host.encode())))


def generate(rng, count):
    for _ in range(count):
        kind = rng.random()
        if kind < 0.10:
            yield about_identity(rng, "/public/echo", [field(rng) for _ in range(rng.randrange(2))])
        elif kind < 0.18:
            yield framed_oddly(rng)
        elif kind < 0.24:
            yield told_otherwise(rng)
        elif kind < 0.26:
            yield copied(rng)
        else:
            yield spelled_oddly(rng)


def spelled_oddly(rng):
    pieces = soup(rng) if rng.random() < 0.12 else spell(rng)
    request = Request(pieces)
    if rng.random() < 0.3:
        request.method = rng.choice(METHODS)
        request.alone = request.method not in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3])):
        request.fields.append(field(rng))
    if rng.random() < 0.03:
        request.fields.append(rng.choice(ODD_HEADS))
        request.alone = True
    if rng.random() < 0.03:
        request.version = rng.choice(VERSIONS)
        request.alone = True
    return request


def spell(rng):
    """A way to the secret, with some of its pieces spelled in another way."""
    route = rng.choice(ROUTES)
    pieces = [piece for name in route.split("/")[1:] for piece in ("/", name)]
    odd = rng.sample(range(len(pieces)), min(len(pieces), rng.choice([0, 1, 1, 1, 2, 2, 3, 5])))
    if rng.random() < 0.25:
        # Escaped dots alone: some readers resolve them before they decode anything else.
        odd = [at for at, piece in enumerate(pieces) if piece == ".."]
    for at in odd:
        pieces[at] = respell(rng, pieces[at])
    if rng.random() < 0.15:
        pieces.append(rng.choice(TAILS))
    if rng.random() < 0.06:
        pieces.insert(0, rng.choice(STARTS))
    return pieces


def respell(rng, piece):
    if piece == "/":
        return rng.choice(SLASHES)
    if piece == "..":
        return rng.choice(UPS)
    at = rng.randrange(len(piece)) if piece else 0
    letter = piece[at:at + 1]
    escaped = "".join(f"%{byte:02x}" for byte in letter.encode())
    changed = rng.choice([escaped, escaped, escaped.replace("%", "%25"), letter.upper(), letter + ";", "%00", letter + "\u0301"])
    whole = "".join(f"%{byte:02X}" for byte in piece.encode())
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in piece)
    return rng.choice([piece[:at] + changed + piece[at + 1:]] * 4 + [
        whole, whole.replace("%", "%25"), piece.upper(), piece.title(), piece + ";a=b", piece + ";", piece + "%3bx", ";" + piece,
        piece + ".", piece + "%20", piece + "%00", wide, urllib.parse.quote(wide), piece + "%2e",
    ])


def soup(rng):
    return ["/"] + [rng.choice(SOUP) for _ in range(rng.randrange(1, 9))]


def field(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(PATH_FIELDS).encode() + b": " + rng.choice(PATHS).encode()
    if kind < 0.45:
        return rng.choice(METHOD_FIELDS).encode() + b": " + rng.choice(["GET", "HEAD", "TRACE", "get"]).encode()
    if kind < 0.6:
        return forged(rng)
    return rng.choice(HEADS)


def forged(rng):
    """A header of identity as a client may spell it, so that an app folds it to the name that it trusts."""
    name = rng.choice(IDENTITY)
    fold = rng.choice(["-", "-", "_", ".", "mixed"])
    name = "".join(rng.choice("-_.") if c == "-" and fold == "mixed" else fold if c == "-" else c for c in name)
    name = rng.choice([name, name.lower(), name.upper(), name.swapcase()])
    blank = rng.choice([b": ", b": ", b":", b":\t", b":    "])
    return name.encode() + blank + FORGED + rng.choice([b"", b"", b" ", b"\t", b", x"])


def about_identity(rng, path, more):
    fields = [forged(rng) for _ in range(rng.randrange(1, 6))] + more
    if rng.random() < 0.2:
        names = b", ".join(line.split(b":")[0] for line in fields)
        fields.append(b"Connection: " + names)
    request = Request([path], rng.choice(["GET", "GET", "GET", "POST", "OPTIONS"]), fields)
    if request.method == "POST":
        request.fields.append(b"Content-Length: 0")
    return request


def told_otherwise(rng):
    """A plain path, and a header that an app may take another path, or a part of it, from."""
    path = rng.choice(["/public/private/secret"] * 2 + ["/public/page", "/public/x/private/secret", "/x/private/secret"])
    names = rng.sample(rng.choice([PATH_FIELDS, PREFIX_FIELDS]), rng.choice([1, 1, 2, 4]))
    fields = [f"{name}: {rng.choice(PATHS + PREFIXES)}".encode() for name in names]
    return Request([path], rng.choice(["GET", "GET", "GET", "HEAD", "POST"]), fields)


def copied(rng):
    """WebDAV: what is written to is named by a header."""
    start = rng.choice(["", "", "http://<HOST>", "http://<HOST>", "https://<HOST>", "http://other.test", "//<HOST>"])
    target = f"{start}{''.join(spell(rng))}".encode(errors="replace")
    fields = [b"Destination: " + target, rng.choice([b"Overwrite: T", b"Depth: 0", b"X-A: b"])]
    return Request([rng.choice(["/public/page"] * 4 + ["/public/../public/page", "/public"])], "COPY", fields, alone=True)


def framed_oddly(rng):
    fields, body = rng.choice(ODD_BODIES)
    path = rng.choice(["/public/page", "/public/page", "/public/echo", "/private/secret"])
    return Request([path], rng.choice(["POST", "POST", "GET", "PUT", "HEAD"]), [fields], body, alone=True)

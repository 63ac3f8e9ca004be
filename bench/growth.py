"""What bench/growth.sh runs: growth.py provider | tokens | fill | logins | app | certificates | handshakes, each with
arguments of its own. Signatures are those of bench/tokens.py."""
import asyncio, json, os, random, socket, ssl, sys, time, urllib.parse
import tokens as bench
from tokens import b64, compact

def signed(key, kind, **claims):
    now = int(time.time())
    header = {"alg": "ES256", "typ": kind, "kid": "ES256"}
    head = f"{compact(header)}.{compact({'aud': 'bench', 'iat': now, 'exp': now + 86400, **claims})}"
    return f"{head}.{b64(key.signature(head.encode()))}"

async def serve(address, answer):
    """`answer` is given path, query and body, and returns a status and a body."""
    async def connection(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path, _, query = head.split(b" ")[1].decode().partition("?")
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                answered = await answer(path, dict(urllib.parse.parse_qsl(query)), body.decode())
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answered), answered))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
    host, _, port = urllib.parse.urlsplit(address).netloc.partition(":")
    await (await asyncio.start_server(connection, host, int(port), backlog=16384)).serve_forever()

# Any number of providers under one address, with one key: ISSUER/p0, ISSUER/p1, ... Each login is another user's.
def provider(issuer, folder):
    key = bench.Key("ES256", issuer, folder)
    keys = json.dumps({"keys": [key.jwk()]}).encode()
    async def answer(path, _, body):
        own, what = issuer + "/" + path.split("/")[1], path.rpartition("/")[2]
        if what == "openid-configuration":
            return json.dumps({
                "issuer": own, "jwks_uri": f"{own}/jwks", "authorization_endpoint": f"{own}/authorize",
                "token_endpoint": f"{own}/token", "response_types_supported": ["code"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]}).encode()
        if what == "jwks":
            return keys
        assert what == "token", path
        code = dict(urllib.parse.parse_qsl(body))["code"]
        claims = {"iss": own, "sub": f"user-{code}", "preferred_username": "alice", "name": "Alice Example",
                  "email": "alice@example.com", "email_verified": True}
        return json.dumps({"access_token": "a" * 700, "token_type": "Bearer", "expires_in": 36000,
                           "refresh_token": "r" * 700, "id_token": signed(key, "JWT", nonce=code, **claims)}).encode()
    asyncio.run(serve(issuer, answer))

# So many access tokens into a file, one a line and all of one length: wrk finds any of them by its place.
def tokens(issuer, folder, count, file):
    key = bench.Key("ES256", issuer, folder)
    with open(file, "w") as out:
        for n in range(int(count)):
            out.write(signed(key, "at+jwt", iss=issuer, sub=f"user-{n:010}") + "\n")

# Each token from a line on is sent once. Prints how many a second.
def fill(url, file, begin, end):
    url, begin, end = urllib.parse.urlsplit(url), int(begin), int(end)
    connections = [socket.create_connection((url.hostname, url.port)) for _ in range(32)]
    head = b"GET / HTTP/1.1\r\nHost: " + url.netloc.encode() + b"\r\nAuthorization: Bearer %s\r\n\r\n"
    with open(file, "rb") as lines:
        width = len(lines.readline())
        lines.seek(begin * width)
        started = time.monotonic()
        while begin < end:
            used = connections[:end - begin]
            for connection in used:
                connection.sendall(head % lines.readline().strip())
            for connection in used:
                answer = connection.recv(65536)
                while not answer.endswith(b"hello from the app\n"):
                    piece = connection.recv(65536)
                    assert piece, answer
                    answer += piece
                assert answer.startswith(b"HTTP/1.1 200 "), answer
            begin += len(used)
        print(f"{time.monotonic() - started:.3f}")

# Signs in so often, and adds the cookies to a file, all of one length. Prints the seconds that it took.
def logins(url, count, file):
    url = urllib.parse.urlsplit(url)
    connection = socket.create_connection((url.hostname, url.port))
    def ask(path, cookie):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nAccept: text/html\r\n{cookie}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
        answer, _, rest = answer.decode().partition("\r\n\r\n")
        assert answer.startswith("HTTP/1.1 302 ") and "content-length: 0" in answer.lower() and not rest, answer
        fields = [line.partition(": ") for line in answer.split("\r\n")[1:]]
        return [value for name, _, value in fields if name.lower() == "location"][0], [
            value.split(";")[0] for name, _, value in fields if name.lower() == "set-cookie"]
    begun = time.monotonic()
    with open(file, "a") as out:
        for _ in range(int(count)):
            location, flow = ask("/", "")
            asked = dict(urllib.parse.parse_qsl(location.partition("?")[2]))
            code = urllib.parse.urlencode({"code": asked["nonce"], "state": asked["state"]})
            _, cookies = ask(f"/oauth2/callback?{code}", f"Cookie: {flow[0]}\r\n")
            out.write(next(cookie for cookie in cookies if cookie.startswith("doorward=")) + "\n")
    print(time.monotonic() - begun)

# An app that holds every request to /late until somebody asks for /release; /waiting tells how many it holds.
def app(address):
    released, waiting = asyncio.Event(), [0]
    async def answer(path, *_):
        if path == "/late":
            waiting[0] += 1
            await released.wait()
            waiting[0] -= 1
        elif path == "/release":
            released.set()
        elif path == "/hold":
            released.clear()
        return b"%d" % waiting[0]
    asyncio.run(serve(address, answer))

# Certificates for n0.example.test, n1.example.test, ... with one key, and with WILDCARD one for all of them, which
# comes last. Prints the items of `tls`.
def certificates(folder, count, wildcard=""):
    def der(tag, *parts):
        body = b"".join(parts)
        size = len(body).to_bytes(2 if len(body) > 255 else 1, "big")
        return bytes([tag]) + (bytes([0x80 + len(size)]) if len(body) > 127 else b"") + size + body
    def number(value):
        return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))
    key = bench.Key("ES256", "", folder)
    public = bench.openssl("pkey", "-in", key.file, "-pubout", "-outform", "DER")
    ecdsa = der(0x30, bytes.fromhex("06082a8648ce3d040302"))
    issuer = der(0x30, der(0x31, der(0x30, bytes.fromhex("0603550403"), der(0x0C, b"bench"))))
    time_of = lambda at: der(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(at)).encode())
    valid = der(0x30, time_of(time.time() - 3600), time_of(time.time() + 2 * 86400))
    names = [f"n{n}.example.test" for n in range(int(count))] + ["*.example.test"] * bool(wildcard)
    for n, name in enumerate(names):
        alternatives = der(0x30, bytes.fromhex("0603551d11"), der(4, der(0x30, der(0x82, name.encode()))))
        inner = der(0x30, bytes.fromhex("a003020102"), number(n + 1), ecdsa, issuer, valid, issuer, public,
                    der(0xA3, der(0x30, alternatives)))
        signature = key.signature(inner)
        halves = (number(int.from_bytes(half, "big")) for half in (signature[:32], signature[32:]))
        made = der(0x30, inner, ecdsa, der(3, b"\0", der(0x30, *halves)))
        with open(f"{folder}/n{n}.pem", "w") as file:
            file.write(ssl.DER_cert_to_PEM_cert(made))
        print(f"      - {{certificate: {folder}/n{n}.pem, private_key: {key.file}}}")

# Full handshakes, one after another, each for any of the names; the certificate must be that name's. Prints how many
# there were, and how many a second.
def handshakes(address, count, seconds):
    host, _, port = address.partition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    done, begun = 0, time.monotonic()
    while time.monotonic() - begun < float(seconds):
        name = f"n{random.randrange(int(count))}.example.test"
        with socket.create_connection((host, int(port))) as plain:
            with context.wrap_socket(plain, server_hostname=name) as secure:
                given = secure.getpeercert(True)
            assert bytes([0x82, len(name)]) + name.encode() in given, f"{name}: another certificate"
        done += 1
    print(f"{done} {done / (time.monotonic() - begun):.0f}")

{f.__name__: f for f in (provider, tokens, fill, logins, app, certificates, handshakes)}[sys.argv[1]](*sys.argv[2:])

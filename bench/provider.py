"""An OpenID provider that lets everybody in as alice: provider.py ISSUER KEY TOKEN_FILE. The code is the request's nonce, so that nothing
has to be kept; the access token is written to the file."""
import base64, http.server, json, subprocess, sys, time, urllib.parse
issuer, key, token_file = sys.argv[1:]
SIZE = 1450 - len("Bearer ")  # as large as the access tokens that providers make
def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, stdout=subprocess.PIPE, check=True).stdout
def signed(kind, **more):
    now = int(time.time())
    header = {"alg": "RS256", "typ": kind, "kid": "bench"}
    claims = {"iss": issuer, "sub": "5f0c9a3e-1f5b-4b0a-9a57-0d2f0c6c1a11", "aud": "bench", "iat": now,
              "exp": now + 86400, "preferred_username": "alice", "name": "Alice Example", "email": "alice@example.com",
              "email_verified": True, "groups": ["admins", "operators", "grafana-editors"], **more}
    head = ".".join(b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{head}.{b64(openssl('dgst', '-sha256', '-sign', key, data=head.encode()))}"
def access_token(padding=0):
    return signed("at+jwt", jti="d2f1c0de-0000-4000-8000-000000000001", scope="openid profile email api:read",
                  padding="x" * padding)
ACCESS = access_token((SIZE - len(access_token())) * 3 // 4)
modulus = openssl("rsa", "-in", key, "-modulus", "-noout").decode().strip().partition("=")[2]
DOCUMENTS = {
    "/.well-known/openid-configuration": {
        "issuer": issuer, "jwks_uri": f"{issuer}/jwks", "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token", "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email"]},
    "/jwks": {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench",
                        "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}]}}
class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a whole answer at once
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/authorize":
            asked = dict(urllib.parse.parse_qsl(query))
            code = urllib.parse.urlencode({"code": asked["nonce"], "state": asked["state"]})
            self.answer(302, {"Location": f"{asked['redirect_uri']}?{code}"}, b"")
        else:
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(DOCUMENTS[path]).encode())
    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        tokens = {"access_token": ACCESS, "token_type": "Bearer", "expires_in": 36000, "refresh_token": "r" * 700,
                  "id_token": signed("JWT", nonce=form["code"])}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(tokens).encode())
    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
    def log_request(self, *_):
        pass
with open(token_file, "w") as file:
    file.write(ACCESS)
address = urllib.parse.urlsplit(issuer)
http.server.ThreadingHTTPServer((address.hostname, address.port), Provider).serve_forever()

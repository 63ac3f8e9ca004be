"""An OpenID provider that lets everybody in as alice: provider.py ISSUER FOLDER. The code is the request's nonce, so that
nothing has to be kept. The folder gets its keys, ALGORITHM.pem, and an access token signed with each, ALGORITHM.token."""
import http.server, json, sys, urllib.parse
from tokens import ALGORITHMS, Key

issuer, folder = sys.argv[1:]
KEYS = {algorithm: Key(algorithm, issuer, folder) for algorithm in ALGORITHMS}
ACCESS = {algorithm: key.access_token() for algorithm, key in KEYS.items()}
DOCUMENTS = {
    "/.well-known/openid-configuration": {
        "issuer": issuer, "jwks_uri": f"{issuer}/jwks", "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token", "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email"]},
    "/jwks": {"keys": [key.jwk() for key in KEYS.values()]}}


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
        tokens = {"access_token": ACCESS["RS256"], "token_type": "Bearer", "expires_in": 36000, "refresh_token": "r" * 700,
                  "id_token": KEYS["RS256"].signed("JWT", nonce=form["code"])}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(tokens).encode())

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_):
        pass


for algorithm, token in ACCESS.items():
    with open(f"{folder}/{algorithm}.token", "w") as file:
        file.write(token)
address = urllib.parse.urlsplit(issuer)
http.server.ThreadingHTTPServer((address.hostname, address.port), Provider).serve_forever()

"""Keys and access tokens of the provider: tokens.py ISSUER FOLDER COUNT prints so many tokens, each another. The libcrypto
of the openssl command signs: as processes, thousands of signatures would take minutes."""
import base64, ctypes, json, os, subprocess, sys, time

SIZE = 1450 - len("Bearer ")  # as large as the access tokens that providers make
ALGORITHMS = {  # how openssl makes the key
    "RS256": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"), "PS256": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "ES256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "EdDSA": ("ED25519",)}
PSS, SALT_AS_DIGEST = 6, -1
crypto = ctypes.CDLL("libcrypto.so.3")
for name in ("BIO_new_file", "PEM_read_bio_PrivateKey", "EVP_MD_CTX_new", "EVP_sha256"):
    getattr(crypto, name).restype = ctypes.c_void_p


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(part):
    return b64(json.dumps(part, separators=(",", ":")).encode())


def openssl(*args):
    return subprocess.run(["openssl", *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


class Key:
    """Made in the folder unless it is there."""

    def __init__(self, algorithm, issuer, folder):
        self.algorithm, self.issuer, self.file, self.padding = algorithm, issuer, f"{folder}/{algorithm}.pem", 0
        if not os.path.exists(self.file):
            openssl("genpkey", "-out", self.file, "-algorithm", *ALGORITHMS[algorithm])
        file = ctypes.c_void_p(crypto.BIO_new_file(self.file.encode(), b"r"))
        self.key = ctypes.c_void_p(crypto.PEM_read_bio_PrivateKey(file, None, None, None))
        self.padding = (SIZE - len(self.access_token())) * 3 // 4

    def jwk(self):
        public = openssl("pkey", "-in", self.file, "-pubout", "-outform", "DER")
        if self.algorithm == "ES256":
            own = {"kty": "EC", "crv": "P-256", "x": b64(public[-64:-32]), "y": b64(public[-32:])}
        elif self.algorithm == "EdDSA":
            own = {"kty": "OKP", "crv": "Ed25519", "x": b64(public[-32:])}
        else:
            modulus = openssl("rsa", "-in", self.file, "-modulus", "-noout").decode().strip().partition("=")[2]
            own = {"kty": "RSA", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}
        return {**own, "use": "sig", "alg": self.algorithm, "kid": self.algorithm}

    def signature(self, data):
        context, inner = ctypes.c_void_p(crypto.EVP_MD_CTX_new()), ctypes.c_void_p()
        digest = None if self.algorithm == "EdDSA" else ctypes.c_void_p(crypto.EVP_sha256())
        assert crypto.EVP_DigestSignInit(context, ctypes.byref(inner), digest, None, self.key) == 1
        if self.algorithm == "PS256":
            assert crypto.EVP_PKEY_CTX_set_rsa_padding(inner, PSS) == 1
            assert crypto.EVP_PKEY_CTX_set_rsa_pss_saltlen(inner, SALT_AS_DIGEST) == 1
        made, size = ctypes.create_string_buffer(512), ctypes.c_size_t(512)
        assert crypto.EVP_DigestSign(context, made, ctypes.byref(size), data, ctypes.c_size_t(len(data))) == 1
        crypto.EVP_MD_CTX_free(context)
        made = made.raw[:size.value]
        if self.algorithm == "ES256":  # from ASN.1 to the two numbers alone (RFC 7518, 3.4)
            end = 4 + made[3]
            made = b"".join(int.from_bytes(n, "big").to_bytes(32, "big") for n in (made[4:end], made[end + 2:]))
        return made

    def signed(self, kind, **more):
        now = int(time.time())
        header = {"alg": self.algorithm, "typ": kind, "kid": self.algorithm}
        claims = {"iss": self.issuer, "sub": "5f0c9a3e-1f5b-4b0a-9a57-0d2f0c6c1a11", "aud": "bench", "iat": now,
                  "exp": now + 86400, "preferred_username": "alice", "name": "Alice Example",
                  "email": "alice@example.com", "email_verified": True,
                  "groups": ["admins", "operators", "grafana-editors"], **more}
        head = f"{compact(header)}.{compact(claims)}"
        return f"{head}.{b64(self.signature(head.encode()))}"

    def access_token(self, number=1):
        return self.signed("at+jwt", jti=f"d2f1c0de-0000-4000-8000-{number:012}",
                           scope="openid profile email api:read", padding="x" * self.padding)


if __name__ == "__main__":
    issuer, folder, count = sys.argv[1:]
    key = Key("RS256", issuer, folder)
    for number in range(int(count)):
        print(key.access_token(number))

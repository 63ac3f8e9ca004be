"""Looks for what is secret in the store and in the logs: tokens, codes, cookies, secrets; in the store for names of users, too."""
import re

from parts import ADMIN_TOKEN, CLIENT_SECRET, STORE_SECRET

WORD = re.compile(rb"[A-Za-z0-9_-]{16,}")
PANIC = (b"panicked at", b"RUST_BACKTRACE")


class Secrets:
    def __init__(self, world):
        self.world, self.words = world, set()
        self.add([CLIENT_SECRET, STORE_SECRET, ADMIN_TOKEN])

    def add(self, secrets):
        """Of a token with parts, its claims and its signature alone tell too much as well; its head is the same for all."""
        for secret in secrets:
            parts = secret.split(".")
            for part in parts[1:] if len(parts) == 3 else parts:
                if WORD.fullmatch(part.encode()):
                    self.words.add(part.encode())

    def gather(self, clients):
        for client in clients:
            self.add(client.secrets)
        try:
            with open(f"{self.world.provider.folder}/secrets") as file:
                self.add(file.read().split())
        except OSError:
            pass

    def shown_by(self, data):
        return sorted({word for word in WORD.findall(data) if word in self.words})

    async def in_store(self, findings, at):
        """Keys and values, each as it is."""
        names = [word.encode() for name in self.world.people for word in (name, f"{name}@corp.test")]
        async for key, value in self.world.redis.contents():
            data = key + b"\n" + value
            shown = self.shown_by(data) + [name for name in names if name in data]
            if shown:
                findings.bad("secrets", f"the store shows {shown[:3]} under {key!r}", at)
                return
        findings.good("secrets")

    def in_logs(self, findings, at):
        for path in self.world.logs():
            with open(path, "rb") as file:
                for line in file:
                    shown = self.shown_by(line)
                    if shown:
                        findings.bad("secrets", f"{path} shows {shown[:3]}: {line[:200]!r}", at)
                        return
                    if any(word in line for word in PANIC):
                        findings.bad("processes", f"{path}: {line[:300]!r}", at)
        findings.good("secrets")
        findings.good("processes")

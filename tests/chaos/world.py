"""All parts of one run, put together: a provider, a store, replicas of one configuration, an app, and the relays between them."""
import asyncio
import os
import random
import signal

import parts
from parts import ADMIN_TOKEN, CLIENT_SECRET, HOST, STORE_SECRET, App, Provider, Replica
from redis_servers import Redis
from relay import Relay, free_port

TOKEN_LIFE = 8  # seconds: the later half of it a token is due
PROGRAM = ("machine", "machine-secret-of-the-chaos-run")


class World:
    """`folder` holds everything that is written."""

    def __init__(self, store, folder, binary, people):
        self.store, self.folder, self.binary = store, folder, binary
        self.people = [f"person-{n:02}" for n in range(people)]
        self.replicas, self.redis, self.app, self.disk = [], None, None, False

    @property
    def shared(self):
        return self.redis is not None

    async def start(self):
        self.front = await Relay("front", self.anybody, lambda: {}).start(free_port())
        self.origin = f"http://{HOST}:{self.front.port}"
        self.app = await App().start(free_port())
        await self.start_provider()
        if self.store not in ("file", "memory"):
            self.redis = await Redis.start(self.store, self.folder, self.pids)
        for n in range(3 if self.shared else 1):
            folder = f"{self.folder}/replica{n}"
            replica = Replica(f"r{n}", folder, free_port(), free_port(), self.binary, self.config)
            self.replicas.append(replica)
            replica.spawn()
        for replica in self.replicas:
            for _ in range(300):
                if await replica.is_ready():
                    break
                await asyncio.sleep(0.1)
            else:
                raise RuntimeError(f"{replica.name} does not get ready: see {replica.log}")

    async def start_provider(self):
        port = free_port()
        self.provider_relay = await Relay("provider", port, self.pids).start(free_port())
        self.issuer = f"http://127.0.0.1:{self.provider_relay.port}"
        person = {"client_id": "doorward", "client_secret": CLIENT_SECRET,
                  "redirect_uris": [f"{self.origin}/oauth2/callback"],
                  "post_logout_redirect_uris": [f"{self.origin}/oauth2/signed_out"],
                  "backchannel_logout_uri": f"{self.origin}/oauth2/backchannel_logout"}
        program = {"client_id": PROGRAM[0], "client_secret": PROGRAM[1]}
        users = {name: {"name": f"Name of {name}", "email": f"{name}@corp.test", "groups": ["dev"]}
                 for name in self.people}
        settings = {"clients": [person, program], "users": users, "access_token_ttl": TOKEN_LIFE}
        self.provider = await Provider(f"{self.folder}/provider", port, self.issuer, settings).start()

    def pids(self):
        return {replica.name: replica.pids() for replica in self.replicas}

    def anybody(self):
        """The port of some replica that runs: where the provider's own calls go."""
        alive = [replica.port for replica in self.replicas if replica.pids()]
        return random.choice(alive) if alive else None

    def replica(self, name):
        return next((replica for replica in self.replicas if replica.name == name), None)

    def config(self, replica):
        store = f"backend: {self.store}, path: {'disk/' if self.disk else ''}store.db"
        if self.redis:
            redis = (f"{self.redis.settings()}, connect_timeout: 1s, command_timeout: {int(parts.COMMAND * 1000)}ms, "
                     f"breaker: {{failures: 5, cooldown: {int(parts.COOLDOWN)}s}}")
            store = f"backend: redis, redis: {{{redis}}}"
        route = f"from: \"{self.origin}"
        return f"""listen: ["127.0.0.1:{replica.port}"]
admin: {{address: "127.0.0.1:{replica.admin}", token: {ADMIN_TOKEN}}}
workers: 2
shutdown_grace: 8s
logging: {{format: json, level: debug}}
store: {{secret: {STORE_SECRET}, {store}}}
refresh_dedup: {{lease: {int(parts.LEASE)}s}}
caches: {{sessions: {{ttl: {int(parts.COPIES)}s}}}}
limits: {{unknown_tokens: {{requests: 500}}}}
providers:
  corp:
    issuer: "{self.issuer}"
    client_id: doorward
    client_secret: {CLIENT_SECRET}
    timeout: {int(parts.PROVIDER_TIMEOUT)}s
    scopes: [openid, profile, email, offline_access]
    audiences: [doorward, "urn:api:RS256", "urn:api:ES256"]
routes:
  - {{name: app, {route}/", to: "http://127.0.0.1:{self.app.port}", auth: {{accept: [session]}}}}
  - {{name: api, {route}/api/", to: "http://127.0.0.1:{self.app.port}", auth: {{accept: [bearer]}}}}
  - {{name: public, {route}/public/", to: "http://127.0.0.1:{self.app.port}", auth: public}}
"""

    def links(self):
        """Relays by what is behind them."""
        return {"store": self.redis.relays if self.redis else [], "provider": [self.provider_relay]}

    async def end(self):
        for replica in self.replicas:
            replica.end()
        if self.provider.process.poll() is None:
            self.provider.process.send_signal(signal.SIGCONT)
        self.provider.kill()
        if self.redis:
            self.redis.end()

    def logs(self):
        return [replica.log for replica in self.replicas if os.path.exists(replica.log)]

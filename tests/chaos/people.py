"""Who uses the gateway: people with browsers, programs with bearer tokens, and strangers with bad ones."""
import asyncio
import base64
import json
import time
import urllib.parse

from model import IN, OUT
from web import Broken, Browser, Jar, ask
from world import PROGRAM, TOKEN_LIFE

COOKIE = "doorward"
JSON = {"Accept": "application/json"}
PAGE = {"Accept": "text/html"}
LIMIT = 12.0
GHOSTS = 3


class Client:
    def __init__(self, world, model, dice):
        self.world, self.model, self.dice = world, model, dice
        self.host = world.origin.removeprefix("http://")

    def any_replica(self):
        return self.dice.choice(self.world.replicas)


class Person(Client):
    """`ghosts`: sessions that are signed out, whose cookies somebody has kept."""

    def __init__(self, world, model, dice, name):
        super().__init__(world, model, dice)
        self.name, self.session, self.ghosts, self.browser, self.secrets = name, None, [], None, set()

    async def live(self):
        while True:
            await asyncio.sleep(self.dice.expovariate(1 / 1.2))
            if self.session is None or self.session.state != IN:
                self.session = None
                await self.sign_in()
                continue
            what = self.dice.random()
            if what < 0.82:
                await self.burst(self.dice.choice([1, 1, 2, 4]))
            elif what < 0.92:
                await asyncio.sleep(TOKEN_LIFE + self.dice.uniform(0.2, 4))
                await self.burst(8)
            elif what < 0.96:
                await self.sign_out()
            elif what < 0.98:
                await self.leave_at_provider()
            else:
                await self.ended_by_admin()
            if self.ghosts and self.dice.random() < 0.5:
                await self.visit(self.dice.choice(self.ghosts), self.any_replica())

    async def burst(self, size):
        session = self.session
        await asyncio.gather(*(self.visit(session, self.any_replica()) for _ in range(size)))

    async def visit(self, session, replica):
        """A request with this session's cookie; the answer, if there is one."""
        state, life, began = session.state, replica.serving, time.time()
        headers = {**(PAGE if self.dice.random() < 0.2 else JSON), "Cookie": f"{COOKIE}={session.cookie}"}
        try:
            answer = await ask(replica.port, "GET", "/x", self.host, headers, limit=LIMIT)
        except Broken as problem:
            self.model.broken(replica.name, began, problem, session.user)
            return None
        self.model.answered(session, replica.name, life, state, answer)
        return answer

    async def sign_in(self):
        first, second, jar, began = self.any_replica(), self.any_replica(), Jar(), time.time()
        both = [first.name, second.name]
        try:
            answer = await ask(first.port, "GET", "/x", self.host, PAGE, limit=LIMIT)
            jar.take(answer)
            if answer.status != 302:
                return self.model.login_failed(both, began, f"it begins with {answer.status} {answer.reason}")
            self.browser = Browser(self.world.provider.port, self.world.issuer.removeprefix("http://"))
            back = await self.browser.sign_in(answer.header("location"), self.name)
            target = back.removeprefix(self.world.origin)
            headers = {**PAGE, "Cookie": jar.text()}
            self.secrets |= {value for values in urllib.parse.parse_qs(target).values() for value in values[:1]
                             if len(value) > 30 and "://" not in value}
            life = second.serving
            answer = await ask(second.port, "GET", target, self.host, headers, limit=LIMIT)
            self.secrets |= set(jar.values())
            jar.take(answer)
        except (Broken, ValueError) as problem:
            return self.model.login_failed(both, began, str(problem))
        if answer.status != 302 or COOKIE not in jar:
            return self.model.login_failed(both, began, f"it ends with {answer.status} {answer.reason}, request "
                                           f"{answer.header('x-request-id')}")
        self.model.findings.good("logins")
        self.secrets.add(jar[COOKIE])
        self.session = self.model.signed_in(self.name, jar[COOKIE], second.name, life, time.time())
        return None

    async def sign_out(self):
        session, replica = self.session, self.any_replica()
        self.model.leaving(session)
        life, headers = replica.serving, {**PAGE, "Cookie": f"{COOKIE}={session.cookie}"}
        try:
            answer = await ask(replica.port, "GET", "/oauth2/sign_out", self.host, headers, limit=LIMIT)
        except Broken:
            return session.over("its sign-out had no answer")
        if answer.status != 302:
            return session.over("its sign-out was refused")
        return self.ghost(session, replica.name, life, by_index=False)

    async def leave_at_provider(self):
        session = self.session
        self.model.leaving(session)
        before = len(self.model.logouts.get(self.name, []))
        try:
            await self.browser.sign_out(self.world.issuer)
        except Broken:
            return session.over("the provider did not answer its sign-out")
        for _ in range(30):
            self.model.read_provider()
            told = self.model.logouts.get(self.name, [])[before:]
            if told:
                break
            await asyncio.sleep(0.1)
        if not told or not told[-1]["ok"]:
            return session.over("the provider could tell nobody of its sign-out")
        return self.ghost(session, None, None, by_index=True)

    async def ended_by_admin(self):
        session, replica = self.session, self.any_replica()
        self.model.leaving(session)
        life = replica.serving
        try:
            answer = await replica.ask_admin(f"/api/v1/sessions?user={self.name}", "DELETE", limit=LIMIT)
        except Broken:
            return session.over("the administrator had no answer")
        if answer.status != 204:
            return session.over("the administrator was refused")
        return self.ghost(session, replica.name, life, by_index=True)

    def ghost(self, session, replica, life, by_index):
        if session.state != OUT:
            self.model.signed_out(session, replica, life, by_index)
            self.ghosts = [*self.ghosts, session][-GHOSTS:]


class Program(Client):
    """Gets tokens for itself and uses each while it lives."""

    def __init__(self, world, model, dice):
        super().__init__(world, model, dice)
        self.token, self.until, self.secrets = None, 0.0, set()

    async def live(self):
        while True:
            await asyncio.sleep(self.dice.expovariate(1.0))
            if time.time() >= self.until and not await self.renew():
                continue
            good = self.dice.random() < 0.9
            token = self.token if good else self.bad()
            replica, began = self.any_replica(), time.time()
            headers = {**JSON, "Authorization": f"Bearer {token}"}
            source = "127.0.0.1" if good else f"127.0.1.{self.dice.randrange(1, 200)}"
            try:
                answer = await ask(replica.port, "GET", "/api/x", self.host, headers, limit=LIMIT, source=source)
            except Broken as problem:
                self.model.broken(replica.name, began, problem, "a program")
                continue
            self.model.program_answered(replica.name, answer, good)

    def bad(self):
        """Made up, or a real one with another subject under the same signature."""
        if self.dice.random() < 0.5:
            return f"{self.dice.randbytes(24).hex()}"
        head, claims, signature = self.token.split(".")
        told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        told["sub"] = self.dice.choice(self.world.people)
        return f"{head}.{base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b'=').decode()}.{signature}"

    async def renew(self):
        login = base64.b64encode(":".join(PROGRAM).encode()).decode()
        form = {"grant_type": "client_credentials", "scope": "api:read",
                "resource": f"urn:api:{self.dice.choice(['RS256', 'ES256'])}"}
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/x-www-form-urlencoded"}
        host = self.world.issuer.removeprefix("http://")
        try:
            body = urllib.parse.urlencode(form).encode()
            answer = await ask(self.world.provider.port, "POST", "/token", host, headers, body)
            self.token = json.loads(answer.body)["access_token"]
        except (Broken, ValueError, KeyError):
            return False
        self.secrets.add(self.token)
        self.until = time.time() + TOKEN_LIFE - 1
        return True

"""HTTP/1.1 as the people and programs of a run speak it: a request, its whole answer, cookies."""
import asyncio
import http.cookies
import time
import urllib.parse


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.began = self.ended = time.time()

    def header(self, name):
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def reason(self):
        return self.header("x-doorward-reason") or ""


class Broken(Exception):
    """There was no whole answer. `sent`: the other side had taken the connection."""

    def __init__(self, why, sent):
        super().__init__(why)
        self.sent = sent


async def read_answer(reader, method):
    line = (await reader.readline()).split(None, 2)
    if len(line) < 2:
        raise ConnectionError("closed without an answer")
    headers = []
    while (field := (await reader.readline()).strip()):
        name, _, value = field.decode("latin-1").partition(":")
        headers.append((name.strip().lower(), value.strip()))
    status, told = int(line[1]), dict(headers)
    if method == "HEAD" or status in (204, 304):
        body = b""
    elif "content-length" in told:
        body = await reader.readexactly(int(told["content-length"]))
    elif told.get("transfer-encoding") == "chunked":
        body = b""
        while (size := int((await reader.readline()).split(b";")[0], 16)):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.read()
    return Answer(status, headers, body)


def head(method, target, host, headers, body):
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


async def ask(port, method, target, host, headers=None, body=b"", limit=10.0, source="127.0.0.1"):
    """One request on a connection of its own. Raises `Broken` where no whole answer comes."""
    began, writer, sent = time.time(), None, False
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            sent = True
            writer.write(head(method, target, host, {"Connection": "close", **(headers or {})}, body))
            answer = await read_answer(reader, method)
            answer.began = began
            return answer
    except TimeoutError:
        raise Broken(f"no answer in {limit} s", sent) from None
    except (OSError, asyncio.IncompleteReadError, ValueError) as problem:
        raise Broken(f"{type(problem).__name__}: {problem}", sent) from None
    finally:
        if writer:
            writer.transport.abort()


class Jar(dict):
    """The cookies of one browser at one host."""

    def take(self, answer):
        for name, value in answer.headers:
            if name != "set-cookie":
                continue
            for morsel in http.cookies.SimpleCookie(value).values():
                if morsel["max-age"] == "0" or (not morsel.value):
                    self.pop(morsel.key, None)
                else:
                    self[morsel.key] = morsel.value

    def text(self):
        return "; ".join(f"{name}={value}" for name, value in self.items())


class Browser:
    """At the provider: follows its redirects, fills in its form, and keeps its cookies."""

    def __init__(self, port, host):
        self.port, self.host, self.jar = port, host, Jar()

    async def send(self, url, form=None):
        at = urllib.parse.urlsplit(url)
        target = at.path + ("?" + at.query if at.query else "")
        headers = {"Accept": "text/html", "Cookie": self.jar.text()}
        body = b""
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(form).encode()
        answer = await ask(self.port, "POST" if form is not None else "GET", target, self.host, headers, body)
        self.jar.take(answer)
        return answer

    async def sign_in(self, url, name):
        """From the authorization request to the first address that is not the provider's."""
        form = {"login": name, "password": name}
        for _ in range(10):
            answer = await self.send(url)
            if answer.status == 200:
                answer = await self.send(url, form)
            where = answer.header("location")
            if not where:
                raise Broken(f"the provider answers {answer.status} to the login", True)
            url = urllib.parse.urljoin(url, where)
            if urllib.parse.urlsplit(url).netloc != self.host:
                return url
        raise Broken("too many redirects at the provider", True)

    async def sign_out(self, issuer):
        page = (await self.send(f"{issuer}/session/end")).body.decode()
        if 'name="xsrf" value="' not in page:
            raise Broken("the provider shows no sign-out page", True)
        token = page.split('name="xsrf" value="')[1].split('"')[0]
        return await self.send(f"{issuer}/session/end/confirm", {"xsrf": token, "logout": "yes"})

"""The checks: what is sent to an app through a front, and what must not come back."""
import re
import time

import http2
import wire
from app import LENGTH, MARKER, was_written
from fronts import BASED, KINDS, OPEN, USER, sides_of
from generate import FORGED, Request, about_identity, generate

SECONDS = 10
# An app by itself may wait for the rest of an incomplete request; nothing is judged by that.
SECONDS_DIRECT = 0.3
SIGNED_IN = 50
SHOWN = 3
HEAD_OF_SECRET = re.compile(rb"\r\ncontent-length:[ \t]*%d\r?\n?" % LENGTH, re.I)
LISTED = [b"Connection: close, X-Forwarded-User, X-Team", b"Connection: Content-Length, Authorization, X-Api-Key, X-Forwarded-User"]
LITERAL = re.compile(r"/private/secret([?;/]|$)")


class Finding:
    """`client`: of which protocol, wire.Client or http2.Client."""

    def __init__(self, kind, client, side, request, answer):
        self.kind, self.client, self.side, self.request, self.answer = kind, client, side, request, answer


class Result:
    """What one app made of a run. `odd`: spellings by which the app itself serves the secret; `past_open` and `past_closed`: those
    that begin as /public does, and those that do not begin as /private does."""

    def __init__(self, app):
        self.app, self.requests, self.statuses, self.slowest = app, {}, {}, 0.0
        self.odd, self.past_open, self.past_closed = 0, 0, 0
        self.findings, self.checks = [], []

    def check(self, what, is_good, why=""):
        self.checks.append((what, is_good, why))

    def count(self, client, answer):
        self.requests[client.PROTOCOL] = self.requests.get(client.PROTOCOL, 0) + 1
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1

    def found(self, kind):
        return [finding for finding in self.findings if finding.kind == kind]


def is_secret(answer):
    return MARKER in answer.raw() or bool(HEAD_OF_SECRET.search(answer.head + b"\r\n"))


def is_forged(answer):
    return FORGED in answer.body


def run(app, front, rng, count):
    result = Result(app)
    requests = list(generate(rng, count))
    sides = sides_of(app)
    before = served(app) if app.counts else 0
    clients = [wire.Client(front.port, SECONDS)]
    if front.tls_port:
        clients.append(http2.Client(front.tls_port, SECONDS))
    for side in sides:
        through(front, clients[0], side, requests, result)
        for client in clients[1:]:
            through(front, client, side, http2.twisted(rng, generate(rng, count // 2)), result)
    if app.counts:
        times = served(app) - before
        result.check("the app never served the secret", times == 0, f"{times} times, with no credential in any request")
    if front.credential:
        for side in sides:
            for client in clients:
                signed_in(front, client, side, rng, result)
    for client in clients:
        client.close()
    direct(app, requests, result)
    judge(result)
    return result


def through(front, client, side, requests, result):
    for request in requests:
        begun = time.monotonic()
        answer = client.ask(side.sees(request), side.host)
        result.slowest = max(result.slowest, time.monotonic() - begun)
        result.count(client, answer)
        kind = fault(client, request, answer)
        if request.method == "COPY" and was_written(side.app.root):
            kind = "written"
        if kind:
            result.findings.append(Finding(kind, type(client), side, request, answer))
        if request.is_alone() or request.twist:
            after(client, side, request, result)


def fault(client, request, answer):
    if is_secret(answer):
        return "secret"
    if is_forged(answer):
        return "forged"
    if answer.status < 0 or answer.status == 0 and not client.may_end(request):
        return "no answer"
    return None


def after(client, side, request, result):
    """A request that peers may split in two must not leave its second half for somebody else."""
    probe = Request([side.public + "/page"])
    answer = client.ask(probe, side.host)
    is_another = answer.status == 200 and b"the public page" not in answer.body
    kind = fault(client, probe, answer) or ("mixed up" if is_another else None)
    if kind:
        result.findings.append(Finding(kind, type(client), side, request, answer))


def signed_in(front, client, side, rng, result):
    """With a credential: the file as it is, and the app knows the caller by the gateway's word alone."""
    where = f"{side.kind}, {client.PROTOCOL}"
    if side.kind != BASED:
        answer = client.ask(Request(["/private/secret"]), side.host, front.credential)
        result.check(f"{where}: the secret is served to who may see it", is_secret(answer), f"status {answer.status}")
    answer = client.ask(Request([side.public + "/page"]), side.host)
    result.check(f"{where}: the page is served to everybody", b"the public page" in answer.body, f"status {answer.status}")
    if side.app.echoes and side.kind == OPEN:
        wrong = [text for text in (echoed(client, front, side, rng) for _ in range(SIGNED_IN)) if text]
        result.check(f"{where}: the app is told who is calling, by the gateway alone", not wrong, "; ".join(wrong[:2]))


def echoed(client, front, side, rng):
    request = about_identity(rng, "/private/echo", rng.sample(LISTED, rng.randrange(2)))
    answer = client.ask(request, side.host, front.credential)
    users = re.findall(rb"(?im)^x-forwarded-user: *(.*?)\r?$", answer.body)
    # uWSGI ends each connection, which an upload may meet; WEBrick wants a length, which `Connection` may have removed.
    is_refused = answer.status in (400, 411, 502) or answer.status == 0 and client.may_end(request)
    if is_refused or answer.status == 200 and not is_forged(answer) and users == [USER]:
        return ""
    return f"{answer.status} {users} from {client.shown(request, side.host)}"


def direct(app, requests, result):
    client = wire.Client(app.port, SECONDS_DIRECT)
    for request in requests:
        target = request.target()
        # An odd body proves nothing here, and some servers wait for its end, or fill the memory.
        if request.body or request.method == "COPY":
            continue
        if not is_secret(client.ask(request, app.host)) or LITERAL.match(target):
            continue
        result.odd += 1
        result.past_open += target.startswith("/public")
        result.past_closed += not target.startswith("/private")
    client.close()


def served(app):
    client = wire.Client(app.port, SECONDS)
    answer = client.ask(Request(["/public/served"]), app.host)
    client.close()
    return int(answer.body)


def judge(result):
    for kind, what in (("secret", "no answer has the secret"), ("no answer", f"every request is answered within {SECONDS} s"),
                       ("mixed up", "an answer belongs to its request"), ("written", "what is protected stays as it is")):
        found = result.found(kind)
        result.check(what, not found, f"{len(found)} times")
    if result.app.echoes:
        found = result.found("forged")
        result.check("no header of identity reaches the app", not found, f"{len(found)} times")


def reduced(front, finding):
    """The same finding by as little as possible."""
    best, tries = finding.request, 0
    if finding.kind not in ("secret", "forged"):
        return best
    progress = True
    while progress and tries < 200:
        progress = False
        for candidate in smaller(best):
            tries += 1
            client = finding.client(front.port if finding.client is wire.Client else front.tls_port, SECONDS)
            answer = client.ask(finding.side.sees(candidate), finding.side.host)
            client.close()
            if fault(client, candidate, answer) == finding.kind:
                best, progress = candidate, True
                break
    return best


def smaller(request):
    def changed(twist=request.twist, **parts):
        old = dict(pieces=request.pieces, method=request.method, fields=request.fields, body=request.body,
                   version=request.version, alone=request.alone)
        made = Request(**{**old, **parts})
        made.twist = twist
        return made

    if request.twist:
        yield changed(twist=None)
    if request.body:
        yield changed(body=b"", fields=[f for f in request.fields if not f.lower().startswith((b"content-", b"transfer-"))])
    if request.method != "GET":
        yield changed(method="GET")
    if request.version != b"HTTP/1.1":
        yield changed(version=b"HTTP/1.1")
    for at in range(len(request.fields)):
        yield changed(fields=request.fields[:at] + request.fields[at + 1:])
    for width in (3, 2, 1):
        for at in range(len(request.pieces) - width + 1):
            yield changed(pieces=request.pieces[:at] + request.pieces[at + width:])


def report(front, result):
    """One request for each way in which the findings came about."""
    for kind in sorted({finding.kind for finding in result.findings}):
        for side in KINDS:
            found = [finding for finding in result.found(kind) if finding.side.kind == side]
            shown = {}
            for finding in found[:4 * SHOWN]:
                request = reduced(front, finding)
                asked = finding.client.shown(finding.side.sees(request), finding.side.host)
                shown.setdefault(asked, finding.answer)
                if len(shown) == SHOWN:
                    break
            for asked, answer in shown.items():
                print(f"FOUND {kind}, {result.app.name}, {side} (one of {len(found)}): {asked}\n      -> {answer.status} "
                      f"{answer.body[:60]!r}")

"""What each client may see. It knows every session, the faults of the run, and what the provider says that it did, and judges each
answer by that. Where docs/reliability.md does not promise something, the answer is excused, and counted so."""
import asyncio
import json
import time

from parts import COMMAND, COOLDOWN, COPIES, LEASE, PATIENCE, PAUSE, PROVIDER_TIMEOUT
from troubles import (APP, CHANGED, CLOCK, DEAD, EMPTIED, FROZEN, PROVIDER, SLOW, STOPPED, STORE, Findings,
                      Troubles)

RULES = {
    "identity": "the app is told of this user and no other",
    "stays": "who is signed in stays signed in",
    "ends": "who signed out is out, on every replica within the bound",
    "answers": "no 5xx beyond the bounds",
    "waits": "no request waits longer than the bound",
    "connects": "a replica that runs takes connections and answers whole",
    "logins": "a login works while nothing fails",
    "grants": "one grant for each refresh token, and none is lost",
    "programs": "bearer tokens pass and bad ones do not",
    "secrets": "neither store nor logs show what is secret",
    "processes": "no replica panics, ends by itself, or ends with a failure",
    "recovers": "after the faults everything works again, for everyone on every replica",
}
SPARE = 1.5  # for a busy machine
IN, LEAVING, OUT, OVER = "in", "leaving", "out", "over"


def margins(store):
    """How long consequences last. Of a store: it is probed once in COOLDOWN, journals are replayed for a second, and a connection
    that died without a word is noticed after 5 s and the time to connect. Sentinels and clusters need time of their own."""
    back = COOLDOWN + 1 + 5 + 1 + SPARE + {"sentinel": 12, "cluster": 4}.get(store, 0)
    return {STORE: back, PROVIDER: PAUSE + PROVIDER_TIMEOUT + SPARE, DEAD: LEASE + SPARE, FROZEN: LEASE + SPARE,
            EMPTIED: back, SLOW: 2.0, APP: 2.0, CLOCK: 12.0, STOPPED: 1.0, CHANGED: 1.0}


class Session:
    def __init__(self, user, cookie, replica, life, begun):
        self.user, self.cookie, self.born, self.life, self.begun = user, cookie, replica, life, begun
        self.state, self.left, self.left_at, self.left_life, self.by_index = IN, None, None, None, False
        self.seen = {}  # (replica, life): when it first answered 200
        self.grant, self.why = None, None
        self.keeper = (replica, life)  # who had the newest tokens from the provider
        self.stored = begun  # when that was

    def over(self, why):
        if self.state in (IN, LEAVING):
            self.state, self.why = OVER, why


class Model:
    def __init__(self, world):
        self.world = world
        self.troubles = Troubles(margins(world.store))
        self.findings = Findings(self.troubles, RULES)
        self.sessions, self.grants, self.calls, self.newest, self.ended = [], {}, {}, {}, {}
        self.counts = dict.fromkeys(
            ["requests", "logins", "sign-outs", "refreshes", "refused refreshes", "faults", "503", "excused ends",
             "connection errors", "slow store without a fault"], 0)
        self.later, self.logouts, self.took, self.excuses = set(), {}, {}, {}

    # Sessions.

    def signed_in(self, user, cookie, replica, life, begun):
        session = Session(user, cookie, replica, life, begun)
        self.sessions.append(session)
        self.counts["logins"] += 1
        self.read_provider()
        session.grant = self.newest.get(user)
        if session.grant:
            self.grants[session.grant]["session"] = session
        return session

    def leaving(self, session):
        session.state, session.left = LEAVING, time.time()

    def signed_out(self, session, replica, life, by_index):
        """The answer has come: from here on it counts. `replica` is None where the provider told one that we do not know.
        `by_index`: who it was has been named, not which session."""
        session.state, session.left, session.left_at, session.left_life = OUT, time.time(), replica, life
        session.by_index = by_index
        self.counts["sign-outs"] += 1

    def judge_later(self, judge, *arguments):
        """Once the provider's log and the faults around it are known."""
        async def wait():
            await asyncio.sleep(1.0)
            judge(*arguments)
        task = asyncio.create_task(wait())
        self.later.add(task)
        task.add_done_callback(self.later.discard)

    # Requests with a session.

    def answered(self, session, replica, life, state, answer):
        """`state`: of the session when the request was sent."""
        self.counts["requests"] += 1
        began, ended = answer.began, answer.ended
        self.judge_wait(replica, began, ended)
        if answer.status == 200:
            told = json.loads(answer.body or b"{}").get("user")
            if told != session.user:
                self.findings.bad("identity", f"{replica} told the app {told!r} for {session.user}", began)
            else:
                self.findings.good("identity")
            self.judge_pass(session, replica, life, state, began, ended)
        elif answer.status in (401, 302):
            if state == IN:
                self.judge_later(self.judge_refusal, session, replica, life, answer)
            elif state == OUT:
                self.findings.good("ends")
        elif answer.status >= 500:
            self.counts["503"] += 1
            self.judge_failure(session, replica, life, answer)
        else:
            self.findings.bad("answers", f"{replica} answers {answer.status} {answer.reason} to {session.user}", began)

    def judge_wait(self, replica, began, ended):
        self.took.setdefault(replica, []).append(ended - began)
        bound = PATIENCE + COMMAND * (5 if self.world.store == "cluster" else 2) + SPARE
        bound += self.troubles.frozen_for(replica, began, ended)
        if ended - began <= bound:
            return self.findings.good("waits")
        if self.troubles.near([DEAD, STOPPED, APP, SLOW], {replica}, began, ended):
            return self.findings.excuse("waits")
        return self.findings.bad("waits", f"{replica} answered after {ended - began:.1f} s, the bound is {bound:.1f}",
                                 began, ended)

    def judge_pass(self, session, replica, life, state, began, ended):
        if state == IN:
            if life > 0:
                session.seen.setdefault((replica, life), ended)
            return self.findings.good("stays")
        if state != OUT:
            return None
        since = began - session.left
        here = replica == session.left_at and life == session.left_life
        if since < (0 if here else COPIES + SPARE):
            return self.findings.good("ends")
        # Its copies or its journal may be behind for as long as one of the two has trouble, and a moment longer.
        both = {replica, session.left_at, session.born} if session.left_at else None
        kinds = [STORE, EMPTIED, SLOW]
        late = self.troubles.near(kinds, both, began - COPIES, ended)
        lost = self.troubles.near([*kinds, FROZEN], both, session.left - 1, session.left + COPIES)
        frozen = self.troubles.near([FROZEN, DEAD], {replica}, began - 1, ended, after=COPIES)
        if late or lost or frozen or self.may_be_undone(session):
            return self.findings.excuse("ends")
        return self.findings.bad("ends", f"{replica} lets {session.user} in after {since:.2f} s ({state}"
                                 f"{self.how_it_left(session)})", began)

    def how_it_left(self, session):
        if session.state != OUT:
            return ""
        way = "by name" if session.by_index else "by its cookie"
        return f" since {self.troubles.since(session.left):.2f} s {way} on {session.left_at or 'some replica'}"

    def may_be_undone(self, session):
        """A sign-out during an outage is lost if its replica ends before the store is back; and a session that began in one may be
        missing in the index, if its replica has ended."""
        near = self.troubles.near
        if not session.left_at or not self.is_alive((session.left_at, session.left_life)):
            if near([STORE, EMPTIED], session.left_at and {session.left_at}, session.left - 1, session.left + SPARE):
                return True
        began = near([STORE, EMPTIED], {session.born}, session.begun - 1, session.begun + SPARE)
        return bool(session.by_index and began and not self.is_alive((session.born, session.life)))

    def judge_refusal(self, session, replica, life, answer):
        """Somebody whom the model knows signed in was told to sign in."""
        self.read_provider()
        if session.state != IN:
            return self.findings.good("stays")
        excuse = self.excuse_for_end(session, replica, life, answer.began, answer.ended)
        session.over(excuse or "found")
        if excuse:
            self.counts["excused ends"] += 1
            self.excuses[excuse] = self.excuses.get(excuse, 0) + 1
            return self.findings.excuse("stays")
        return self.findings.bad(
            "stays", f"{replica} answers {answer.status} {answer.reason} to {session.user}, who is signed in since "
            f"{self.troubles.since(session.begun):.1f} s at {session.born}, request {answer.header('x-request-id')}",
            answer.began)

    def excuse_for_end(self, session, replica, life, began, ended):
        near = self.troubles.near
        if session.grant in self.ended:
            return "the provider ended it"  # whether it had to is judged with the grants
        if not self.world.shared:
            kept = self.world.store == "file"
            gone = life != session.life and not kept
            return "memory ends with its process" if gone else None
        if not self.is_alive(session.keeper) and near([STORE, EMPTIED], None, session.stored - 1, ended):
            return "only a replica that died held it"
        if near([STORE, FROZEN], {session.born}, session.begun - 1, session.begun + SPARE):
            if near([STORE, FROZEN], {session.born, replica}, began, ended):
                return "the login is not told yet"
        if self.world.store == "sentinel" and near([STORE], None, session.stored - 2, session.stored + 2):
            return "a failover lost the last writes"
        if near([CLOCK], None, session.stored, ended):
            return "clocks differ"
        return None

    def is_alive(self, keeper):
        replica = self.world.replica(keeper[0])
        return replica.life == keeper[1] and replica.process.poll() is None

    def judge_failure(self, session, replica, life, answer):
        """A 5xx."""
        reason, began, ended, near = answer.reason, answer.began, answer.ended, self.troubles.near
        if reason == "store_unavailable":
            cause = (near([STORE, EMPTIED, SLOW], {replica}, began, ended)
                     or near([DEAD, STOPPED, FROZEN], {replica}, began, ended, 2.0))
            first = session.seen.get((replica, life))
            known = session.state == IN and first and (
                not near([STORE, EMPTIED, DEAD, STOPPED, SLOW], {replica}, first - 0.5, first + 0.5))
            if known and self.world.shared:
                cause = near([SLOW], None, began, ended)
        elif reason == "provider_unavailable":
            cause = (near([PROVIDER, SLOW], None, began - PATIENCE, ended)
                     or near([DEAD, FROZEN, STORE, EMPTIED, CLOCK], None, began - PATIENCE - LEASE, ended))
        elif reason in ("upstream_unreachable", "upstream_timeout"):
            cause = near([APP, SLOW], None, began, ended)
        else:
            cause = None
        if cause:
            return self.findings.excuse("answers")
        first = session.seen.get((replica, life))
        first = f"first seen here at {self.troubles.since(first):.2f} s" if first else "not seen here before"
        return self.findings.bad("answers", f"{replica} answers {answer.status} {reason or 'without a reason'} to "
                                 f"{session.user} ({session.state}, {first}), request {answer.header('x-request-id')}",
                                 began)

    def broken(self, replica, began, problem, who):
        """No whole answer came."""
        self.counts["connection errors"] += 1
        stopped = self.troubles.near([STOPPED], {replica}, began, time.time(), after=0)
        if stopped and began < stopped.begin - 0.1:
            stopped = None  # it was in flight, and is to be finished
        if stopped or self.troubles.near([DEAD, FROZEN, SLOW], {replica}, began, time.time(), after=1.0):
            return self.findings.excuse("connects")
        return self.findings.bad("connects", f"{replica} gives no whole answer to {who}: {problem}", began)

    # The provider's own account.

    def read_provider(self):
        for event in self.world.provider.events():
            if event["event"] == "grant" and event.get("type") in ("authorization_code", "refresh_token"):
                origin = self.world.provider_relay.origin.get(event.get("port"))
                event["replica"] = origin[0] if origin else None  # `others`: it had ended before it was looked for
                self.calls[event["call"]] = event
                self.granted(event) if event["ok"] else self.refused(event)
            elif event["event"] == "answer" and event["call"] in self.calls:
                self.calls[event["call"]]["whole"] = event["whole"]
            elif event["event"] == "logout":
                self.logouts.setdefault(event["account"], []).append(event)

    def granted(self, event):
        chain = self.grants.setdefault(event["grant"], {"session": None, "steps": []})
        replica = self.world.replica(event["replica"])
        if event["type"] == "authorization_code":
            self.newest[event["account"]] = event["grant"]
        else:
            self.counts["refreshes"] += 1
            self.findings.good("grants")
        chain["steps"].append(event)
        if chain["session"] and replica:
            chain["session"].keeper, chain["session"].stored = (replica.name, replica.serving), event["at"]

    def refused(self, event):
        if event["type"] == "authorization_code":
            return None
        self.counts["refused refreshes"] += 1
        grant = next((g for g, chain in self.grants.items()
                      if any(event["spent"] in (s.get("made"), s.get("spent")) for s in chain["steps"])), None)
        if grant is None or grant in self.ended:
            return None  # of a login that was never completed, or a consequence of the first refusal
        session = self.grants[grant]["session"]
        if session is None or session.state in (LEAVING, OUT, OVER):
            return self.ended.setdefault(grant, event)  # its tokens were revoked
        self.ended[grant] = event
        return self.judge_later(self.judge_refused, grant, event)

    def judge_refused(self, grant, event):
        chain = self.grants[grant]
        session = chain["session"]
        if session.state in (LEAVING, OUT):
            return None
        earlier = next((s for s in chain["steps"] if s.get("spent") == event["spent"]), None)
        session.over("the provider refused a refresh")
        if earlier is None:
            return self.findings.bad("grants", f"the provider refuses {session.user} the newest token to "
                                     f"{event['replica']}: {event['why']}", event["at"])
        if self.excuse_for_reuse(earlier, event):
            return self.findings.excuse("grants")
        return self.findings.bad(
            "grants", f"{event['replica']} spends a refresh token of {session.user} that {earlier['replica']} spent at "
            f"{self.troubles.since(earlier['at']):.2f} s (answered whole: {earlier.get('whole')})", event["at"])

    def excuse_for_reuse(self, earlier, event):
        """What docs/reliability.md and docs/sessions.md except from `one grant`: its answer was lost on the way, or its replica
        died, froze, or lost the store before the new token was stored, or the second one was frozen since it read."""
        near, first, at = self.troubles.near, {earlier["replica"]}, earlier["at"]
        if not self.world.replica(earlier["replica"]):
            first = None
        if earlier.get("whole") is False or at - earlier["began"] > PROVIDER_TIMEOUT - 0.3:
            return True
        return (near([DEAD, FROZEN], first, at - 0.5, at + SPARE, after=0)
                or near([PROVIDER], first, earlier["began"] - 0.3, at + 0.7, after=0.3)
                or near([STORE, EMPTIED], first, at - LEASE, at + SPARE)
                or near([FROZEN], {event["replica"]}, event["began"] - LEASE - SPARE, event["at"], after=0)
                or near([SLOW], None, earlier["began"] - 1, at + 1)
                or near([CLOCK], None, at, event["at"]))

    # Logins and programs.

    def login_failed(self, replicas, began, what):
        kinds = [STORE, PROVIDER, DEAD, STOPPED, FROZEN, EMPTIED, SLOW, APP, CLOCK]
        if self.troubles.near(kinds, set(replicas), began, time.time()):
            return self.findings.excuse("logins")
        return self.findings.bad("logins", f"a login over {', '.join(replicas)} fails: {what}", began)

    def program_answered(self, replica, answer, good):
        self.counts["requests"] += 1
        self.judge_wait(replica, answer.began, answer.ended)
        expected = answer.status == 200 if good else answer.status in (401, 429)
        if expected:
            return self.findings.good("programs")
        cause = self.troubles.near([PROVIDER, SLOW, DEAD, STOPPED], {replica}, answer.began - PATIENCE, answer.ended, after=32.0)
        if answer.reason.startswith("upstream_"):
            cause = self.troubles.near([APP, SLOW], None, answer.began, answer.ended)
        if cause and (answer.status >= 500 or (good and answer.status == 401 and cause.kind == PROVIDER)):
            return self.findings.excuse("programs")
        return self.findings.bad("programs", f"{replica} answers {answer.status} {answer.reason} to a "
                                 f"{'good' if good else 'bad'} token", answer.began)

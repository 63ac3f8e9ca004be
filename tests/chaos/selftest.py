"""Whether the run can fail: each lie is told to the model, or planted behind its back, in a short run without other faults. The
rule that watches over it must find it, and without a lie nothing may be found."""
import asyncio
import base64
import json
import os
import time

from model import IN
from parts import CLIENT_SECRET
from redis_servers import command
from run import Run
from web import ask

CALM = 10.0  # seconds before a lie, in which nobody may find anything
PEOPLE = 12


async def nothing(_run):
    """No lie: nothing may be found."""


async def lost_session(run):
    """Redis loses what it holds of one session, and of its epoch nothing."""
    (redis,), keys = run.world.redis.servers, []
    async for key, _ in run.world.redis.contents():
        if key.startswith(b"doorward:{session:"):
            keys.append(key)
    await command(redis.port, *(["DEL", key] for key in keys[:4]))


async def forgetful_provider(run):
    run.world.provider.kill()
    await run.world.provider.start(FORGETFUL="1")


async def spent_twice(run):
    """Somebody else spends a refresh token that a session holds."""
    with open(f"{run.world.provider.folder}/store") as file:
        lines = [line for line in file if '"RefreshToken:' in line]
    token = json.loads(lines[-1])[1].removeprefix("RefreshToken:")
    login = base64.b64encode(f"doorward:{CLIENT_SECRET}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/x-www-form-urlencoded"}
    for _ in range(2):
        body = f"grant_type=refresh_token&refresh_token={token}".encode()
        await ask(run.world.provider.port, "POST", "/token", run.world.issuer.removeprefix("http://"), headers, body)


async def not_signed_out(run):
    """The model believes that somebody signed out who did not."""
    for person in run.people:
        if person.session and person.session.state == IN:
            run.model.leaving(person.session)
            person.ghost(person.session, "r0", 1, by_index=False)


async def wrong_user(run):
    run.world.app.lies = run.people[0].name


async def leak_in_store(run):
    run.secrets.gather(run.people)
    await command(run.world.redis.servers[0].port, ["SET", "doorward:{leak}", run.people[0].session.cookie])
    await run.secrets.in_store(run.model.findings, time.time())


async def leak_in_log(run):
    with open(run.world.replicas[0].log, "a") as file:
        file.write(f"token={run.programs[0].token}\n")


async def untold_outage(run):
    """A provider that is away, of which the model is told nothing."""
    for replica in run.world.replicas:
        run.world.provider_relay.hold(replica.name)
    await asyncio.sleep(12)
    run.world.provider_relay.heal_all()


async def untold_crash(run):
    run.world.replicas[1].process.kill()


async def refuses_good_tokens(run):
    for program in run.programs:
        program.token, program.until = program.bad(), time.time() + 60


async def never_recovers(run):
    for relay in run.world.redis.relays:
        relay.cut("r2")
    await run.recover()


LIES = [
    (nothing, None), (lost_session, "stays"), (forgetful_provider, "grants"), (spent_twice, "grants"),
    (not_signed_out, "ends"), (wrong_user, "identity"), (leak_in_store, "secrets"), (leak_in_log, "secrets"),
    (untold_outage, "answers"), (untold_crash, "processes"), (refuses_good_tokens, "programs"),
    (never_recovers, "recovers"),
]


async def one(folder, binary, seed, lie, rule):
    """What went wrong, or nothing."""
    os.makedirs(folder)
    run = Run("standalone", folder, binary, seed, PEOPLE)
    try:
        await run.start()
        run.begin_clients()
        await asyncio.sleep(CALM)
        if run.model.findings.found:
            return "found something before there was a lie"
        await lie(run)
        await asyncio.sleep(CALM + 5)
        await run.end()
        found = {name for name, _ in run.model.findings.found}
        if rule is None:
            return f"found {sorted(found)} where there was nothing" if found else None
        return None if rule in found else f"did not find it; found {sorted(found)}"
    finally:
        await run.clean_up()


async def run(folder, binary, seed, only=()):
    """How many lies were not found."""
    failed, lies = 0, [(lie, rule) for lie, rule in LIES if not only or lie.__name__ in only]
    for lie, rule in lies:
        print(f"--- {lie.__name__}", flush=True)
        problem = await one(f"{folder}/{lie.__name__}", binary, seed, lie, rule)
        print(f"{'FAILED' if problem else 'passed'} {lie.__name__}: {problem or rule or 'silence'}", flush=True)
        failed += problem is not None
    print(f"{len(lies) - failed} passed, {failed} failed")
    return failed

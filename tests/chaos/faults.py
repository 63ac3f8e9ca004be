"""The faults, and the plan of a run: which of them begins when, where, and for how long. One seed makes one plan."""
import asyncio
import glob
import os
import random
import signal
import subprocess
from collections import namedtuple

from parts import FAKETIME, ended
from troubles import APP, CHANGED, CLOCK, DEAD, EMPTIED, FROZEN, PROVIDER, STOPPED, STORE
from web import Broken

Step = namedtuple("Step", "at name target lasts")
REST = 22.0  # seconds without a fault at the end of each round
READY = 90.0


class Faults:
    def __init__(self, world, model):
        self.world, self.model, self.troubles = world, model, model.troubles
        self.expected = set()  # replicas that end because a fault ends them

    async def run(self, step):
        self.model.counts["faults"] += 1
        self.troubles.tell(f"fault {step.name} {step.target} for {step.lasts:.1f} s")
        await getattr(self, step.name.replace("-", "_"))(step.target, step.lasts)

    def begin(self, kind, replica, note):
        return self.troubles.begin(kind, replica, note)

    # Replicas.

    async def kill_replica(self, target, lasts):
        replica = self.world.replicas[target]
        self.expected.add(replica.name)
        trouble = self.begin(DEAD, replica.name, f"{replica.name} is killed")
        replica.process.kill()
        replica.process.wait()
        await asyncio.sleep(lasts)
        await self.start_again(replica, trouble)

    async def stop_replica(self, target, lasts, clock=None):
        replica = self.world.replicas[target]
        self.expected.add(replica.name)
        trouble = self.begin(STOPPED, replica.name, f"{replica.name} is stopped")
        replica.send(signal.SIGTERM)
        if not await ended(replica.process, 12):
            self.bad(f"{replica.name} does not end 12 s after SIGTERM")
            replica.process.kill()
            replica.process.wait()
        elif replica.process.returncode != 0:
            self.bad(f"{replica.name} ended with {replica.process.returncode} after SIGTERM")
        await asyncio.sleep(lasts if clock is None else 0)
        replica.clock = clock
        await self.start_again(replica, trouble)

    async def start_again(self, replica, trouble):
        replica.spawn()
        self.expected.discard(replica.name)
        for _ in range(int(READY * 10)):
            if await replica.is_ready():
                break
            await asyncio.sleep(0.1)
        else:
            self.bad(f"{replica.name} is not ready {READY} s after its start")
        self.troubles.end(trouble)

    def bad(self, text):
        self.model.findings.bad("processes", text, self.troubles.began + self.troubles.since())

    async def freeze_replica(self, target, lasts):
        replica = self.world.replicas[target]
        trouble = self.begin(FROZEN, replica.name, f"{replica.name} is frozen")
        await self.stopped(replica.process, lasts)
        self.troubles.end(trouble)

    @staticmethod
    async def stopped(process, lasts):
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(lasts)
        process.send_signal(signal.SIGCONT)

    async def reload_replica(self, target, lasts, bad=False):
        replica, result = self.world.replicas[target], "refused" if bad else "ok"
        trouble = self.begin(CHANGED, replica.name, f"{replica.name} reloads{' what is wrong' if bad else ''}")
        counter = f"doorward_config_reloads_total{{result=\"{result}\"}}"
        try:
            before = await replica.metric(counter)
            replica.write("pages: {nam: wrong}\n" if bad else f"pages: {{name: \"reload {self.troubles.since():.0f}\"}}\n")
            replica.send(signal.SIGHUP)
            for _ in range(50):
                if await replica.metric(counter) > before:
                    break
                await asyncio.sleep(0.1)
            else:
                self.bad(f"{replica.name} has not reloaded within 5 s")
            await asyncio.sleep(lasts)
        except Broken as problem:
            self.bad(f"{replica.name}: its admin listener gives no answer at a reload: {problem}")
        replica.write()
        self.troubles.end(trouble)

    async def reload_badly(self, target, lasts):
        await self.reload_replica(target, lasts, bad=True)

    async def upgrade_replica(self, target, _lasts):
        replica = self.world.replicas[target]
        self.expected.add(replica.name)
        trouble = self.begin(CHANGED, replica.name, f"{replica.name} is upgraded")
        old = replica.process
        if not await replica.upgrade():
            self.bad(f"{replica.name}: the old process has not ended 60 s after the upgrade began")
            old.kill()
            old.wait()
        elif old.returncode != 0:
            self.bad(f"{replica.name}: the old process ended with {old.returncode} after an upgrade")
        self.expected.discard(replica.name)
        self.troubles.end(trouble)

    async def wrong_clock(self, target, lasts):
        replica = self.world.replicas[target]
        trouble = self.begin(CLOCK, None, f"{replica.name} has a wrong clock")
        await self.stop_replica(target, 0, clock="+2s" if int(lasts * 10) % 2 else "-2s")
        await asyncio.sleep(lasts)
        await self.stop_replica(target, 0)
        replica.clock = None
        self.troubles.end(trouble)

    # The store.

    async def kill_redis(self, target, lasts):
        server = await self.server(target)
        trouble = self.begin(STORE, None, f"redis {server.port} is killed")
        server.kill()
        await asyncio.sleep(lasts)
        server.spawn()
        await self.whole_again(trouble)

    async def freeze_redis(self, target, lasts):
        server = await self.server(target)
        trouble = self.begin(STORE, None, f"redis {server.port} is frozen")
        await self.stopped(server.process, lasts)
        await self.whole_again(trouble)

    async def server(self, target):
        redis = self.world.redis
        if redis.mode == "sentinel" and target == 0:
            return redis.servers[await redis.master()]
        parts = redis.servers + redis.sentinels
        return parts[target % len(parts)]

    async def whole_again(self, trouble):
        if not await self.world.redis.until_whole():
            self.troubles.tell("redis does not become whole again by itself")
        self.troubles.end(trouble)

    async def empty_redis(self, _target, _lasts):
        trouble = self.begin(EMPTIED, None, "redis is emptied")
        try:
            await self.world.redis.empty()
        except (OSError, TimeoutError):
            pass  # it is down
        self.troubles.end(trouble)

    async def full_disk(self, _target, lasts):
        folder = f"{self.world.replicas[0].folder}/disk"
        trouble = self.begin(STORE, None, "the disk is full")
        with open(f"{folder}/filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        await asyncio.sleep(lasts)
        os.remove(f"{folder}/filler")
        self.troubles.end(trouble)

    # Ways. `target`: a replica, or 3 for all of them.

    async def link(self, part, verb, target, lasts, *arguments):
        names = [r.name for r in self.world.replicas]
        names = names if target >= len(names) else [names[target]]
        kind = STORE if part == "store" else PROVIDER
        troubles = [self.begin(kind, name, f"{verb} between {name} and the {part}") for name in names]
        relays = self.world.links()[part]
        for relay in relays:
            for name in names:
                getattr(relay, verb)(name, *arguments)
        await asyncio.sleep(lasts if verb in ("cut", "hold", "slow") else 0)
        for relay in relays:
            for name in names:
                relay.heal(name)
        for trouble in troubles:
            self.troubles.end(trouble)

    async def cut_store(self, target, lasts):
        await self.link("store", "cut", target, lasts)

    async def hold_store(self, target, lasts):
        await self.link("store", "hold", target, lasts)

    async def slow_store(self, target, lasts):
        await self.link("store", "slow", target, lasts, 0.05 + 0.05 * (lasts % 1) * 10)

    async def close_store(self, target, lasts):
        await self.link("store", "close", target, lasts)

    async def silence_store(self, target, lasts):
        await self.link("store", "silence", target, lasts)

    async def cut_provider(self, target, lasts):
        await self.link("provider", "cut", target, lasts)

    async def hold_provider(self, target, lasts):
        await self.link("provider", "hold", target, lasts)

    async def slow_provider(self, target, lasts):
        await self.link("provider", "slow", target, lasts, 0.2 + (lasts % 1))

    async def close_provider(self, target, lasts):
        await self.link("provider", "close", target, lasts)

    # The provider and the app.

    async def kill_provider(self, _target, lasts, **more):
        trouble = self.begin(PROVIDER, None, "the provider is killed" if not more else "the provider has new keys")
        self.world.provider.kill()
        await asyncio.sleep(lasts)
        await self.world.provider.start(**more)
        self.troubles.end(trouble)

    async def rotate_keys(self, _target, _lasts):
        await self.kill_provider(0, 0, NEW_KEYS="1")

    async def freeze_provider(self, _target, lasts):
        trouble = self.begin(PROVIDER, None, "the provider is frozen")
        await self.stopped(self.world.provider.process, lasts)
        self.troubles.end(trouble)

    async def lame_provider(self, target, lasts):
        change = {"token_delay_ms": 1500} if target % 2 else {"token_status": 503}
        trouble = self.begin(PROVIDER, None, f"the provider's token endpoint: {change}")
        try:
            await self.world.provider.state(**change)
            await asyncio.sleep(lasts)
            await self.world.provider.state(token_delay_ms=0, token_status=0)
        except Broken as problem:
            self.troubles.tell(f"the provider's state could not be set: {problem}")
        self.troubles.end(trouble)

    async def stop_app(self, _target, lasts):
        trouble = self.begin(APP, None, "the app is down")
        self.world.app.close()
        await asyncio.sleep(lasts)
        await self.world.app.open()
        self.troubles.end(trouble)


# Name: what it occupies while it lasts, its weight, and how long it lasts at least and at most.
REPLICA = {"kill-replica": ("replica", 3, 0.3, 5), "freeze-replica": ("replica", 3, 0.3, 8),
           "stop-replica": ("replica", 2, 0, 3), "reload-replica": ("replica", 2, 0, 1),
           "reload-badly": ("replica", 1, 0, 1), "upgrade-replica": ("replica", 2, 0, 0)}
ISSUER = {"kill-provider": ("provider", 1, 0.2, 5), "rotate-keys": ("provider", 1, 0, 0),
          "freeze-provider": ("provider", 2, 0.3, 6), "lame-provider": ("provider", 2, 1, 6),
          "cut-provider": ("provider", 1, 0.5, 6), "hold-provider": ("provider", 1, 0.3, 6),
          "slow-provider": ("provider", 1, 1, 6), "close-provider": ("provider", 1, 0, 0)}
SHARED = {"kill-redis": ("redis", 3, 0.2, 8), "freeze-redis": ("redis", 3, 0.3, 8), "empty-redis": ("redis", 1, 0, 0),
          "cut-store": ("redis", 2, 0.3, 8), "hold-store": ("redis", 2, 0.3, 8), "slow-store": ("redis", 1, 1, 8),
          "close-store": ("redis", 1, 0, 0), "silence-store": ("redis", 1, 0, 0)}


def faults_of(store, has_clock, has_disk):
    faults = {**REPLICA, **ISSUER, "stop-app": ("app", 1, 0.5, 3)}
    if store in ("file", "memory"):
        if store == "file":
            del faults["upgrade-replica"]  # a second process cannot open the file
        if has_disk:
            faults["full-disk"] = ("redis", 3, 1, 5)
        return faults
    if has_clock:
        faults["wrong-clock"] = ("replica", 1, 5, 15)
    return {**faults, **SHARED}


def plan(seed, minutes, faults, replicas=3):
    """Rounds of 25 to 45 s and a rest. In every second round one fault is over before the next begins, so that what follows can be
    laid at one door; in the others they overlap, though never two of one place."""
    dice, steps, at, alone = random.Random(seed), [], 6.0, True
    names, weights = list(faults), [weight for _, weight, _, _ in faults.values()]
    while at < minutes * 60 - 40:
        ends, busy = at + dice.uniform(25, 45), {}
        while at < ends:
            name = dice.choices(names, weights)[0]
            place, _, least, most = faults[name]
            target, lasts = dice.randrange(4), round(dice.uniform(least, most), 1)
            target = target % replicas if place == "replica" else target
            key = (place, target) if place == "replica" else place
            if busy.get(key, 0) <= at:
                steps.append(Step(at, name, target, lasts))
                busy[key] = at + lasts + 8
            at += lasts + dice.uniform(6, 10) if alone else dice.uniform(0.5, 4)
        at, alone = max([ends, *busy.values()]) + REST, not alone
        steps.append(Step(at - REST, "rest", 0, REST))
    return steps


def has_clock():
    return bool(glob.glob(FAKETIME))


def mount_small_disk(folder):
    """A file system of a few MiB, where this is allowed."""
    os.makedirs(folder, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def unmount(folder):
    subprocess.run(["umount", folder], capture_output=True, check=False)

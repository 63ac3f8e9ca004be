"""One run: its world, its clients, its faults, and what is looked at while it runs and at its end."""
import asyncio
import os
import random
import signal
import time

import faults as fault
from leaks import Secrets
from model import IN, OUT, Model
from people import Person, Program
from troubles import FROZEN, SLOW, STORE
from web import Broken
from world import World

RECOVERY = 20.0  # seconds after the last fault in which everything works again
LAG = 0.15
PROGRAMS = 4


class Run:
    def __init__(self, store, folder, binary, seed, people, small_disk=False):
        self.world = World(store, folder, binary, people)
        self.world.disk = small_disk
        self.seed, self.tasks, self.under_way = seed, [], set()

    async def start(self):
        if self.world.disk:
            self.world.disk = fault.mount_small_disk(f"{self.world.folder}/replica0/disk")
        await self.world.start()
        self.model = Model(self.world)
        self.faults = fault.Faults(self.world, self.model)
        self.secrets = Secrets(self.world)
        self.people = [Person(self.world, self.model, random.Random(f"{self.seed} {name}"), name)
                       for name in self.world.people]
        self.programs = [Program(self.world, self.model, random.Random(f"{self.seed} program {n}"))
                         for n in range(PROGRAMS)]
        for work in [self.watch_clock(), self.watch_processes(), *map(self.watch_store, self.world.replicas)]:
            self.keep_going(work)

    def begin_clients(self):
        for client in self.people + self.programs:
            self.keep_going(client.live())

    def keep_going(self, work):
        self.tasks.append(asyncio.create_task(self.tell_failure(work)))

    async def tell_failure(self, work):
        """A mistake of the run itself must not look like a quiet gateway."""
        try:
            await work
        except Exception as problem:
            self.model.findings.bad("processes", f"the run itself failed: {type(problem).__name__}: {problem}", time.time())
            raise

    async def watch_clock(self):
        """Where this process itself is late, nothing that waits is Doorward's doing."""
        while True:
            before = time.time()
            await asyncio.sleep(0.05)
            late = time.time() - before - 0.05
            if late > LAG:
                trouble = self.model.troubles.begin(SLOW, None, f"the run itself was late by {late:.2f} s", before)
                self.model.troubles.end(trouble)

    async def watch_store(self, replica):
        """On a busy machine Redis may be slow without a fault. A replica then behaves as in an outage, and says so itself."""
        before, since, life = 0.0, time.time(), replica.life
        while self.world.shared:
            await asyncio.sleep(1.5)
            now, troubles = time.time(), self.model.troubles
            try:
                slow = await replica.slow_commands()
            except Broken:
                continue
            if life != replica.life:
                before, life = 0.0, replica.life
            if slow > before and not troubles.near([STORE, FROZEN], {replica.name}, since - 1, now):
                self.model.counts["slow store without a fault"] += 1
                troubles.end(troubles.begin(STORE, replica.name, f"{replica.name} found the store slow", since - 1))
            before, since = slow, now

    async def watch_processes(self):
        while True:
            await asyncio.sleep(0.3)
            self.model.read_provider()
            for replica in self.world.replicas:
                code = replica.process.poll()
                if code is not None and replica.name not in self.faults.expected:
                    self.faults.bad(f"{replica.name} ended by itself with {code}")
                    replica.spawn()

    async def carry_out(self, steps):
        began, late = self.model.troubles.began, 0.0
        for step in steps:
            await asyncio.sleep(max(0.0, began + late + step.at - time.time()))
            if step.name == "rest":
                await self.rest(step.lasts)
                late = max(late, time.time() - began - step.at - step.lasts)
                continue
            task = asyncio.create_task(self.faults.run(step))
            self.under_way.add(task)
            task.add_done_callback(self.done)

    def done(self, task):
        self.under_way.discard(task)
        if not task.cancelled() and task.exception():
            problem = task.exception()
            self.faults.bad(f"a fault of the run itself failed: {type(problem).__name__}: {problem}")

    async def rest(self, lasts):
        """All faults end, and everything must work again."""
        if self.under_way:
            await asyncio.wait(set(self.under_way))
        for relay in self.world.links()["store"] + self.world.links()["provider"]:
            relay.heal_all()
        until = time.time() + lasts
        self.model.troubles.tell("rest: all faults are over")
        await self.recover()
        if self.world.shared:
            self.secrets.gather(self.people + self.programs)
            await self.secrets.in_store(self.model.findings, time.time())
        await asyncio.sleep(max(0.0, until - time.time()))

    async def recover(self):
        ends = time.time() + RECOVERY
        await asyncio.gather(*(self.is_well(replica, ends) for replica in self.world.replicas))
        sessions = [(p, p.session) for p in self.people if p.session] + [(p, g) for p in self.people for g in p.ghosts]
        turn = asyncio.Semaphore(12)
        await asyncio.gather(*(self.settles(p, session, replica, ends, turn)
                               for p, session in sessions for replica in self.world.replicas))

    async def is_well(self, replica, ends):
        while True:
            try:
                answer = await replica.ask_admin("/readyz")
                told = answer.body.decode()
                if answer.status == 200 and '"degraded":[]' in told.replace(" ", ""):
                    return self.model.findings.good("recovers")
            except Broken as problem:
                told = str(problem)
            await asyncio.sleep(0.3)
            if time.time() > self.put_off(ends):
                break
        return self.model.findings.bad("recovers", f"{replica.name} is not well {RECOVERY} s after the faults: {told}",
                                       time.time())

    def put_off(self, ends):
        """On a busy machine the store may fail by itself, and the time to recover begins anew."""
        slow = self.model.troubles.near([SLOW, STORE], None, ends - RECOVERY + 1, time.time(), after=0)
        return min(max(ends, slow.end + RECOVERY), ends + 60) if slow and slow.end else ends

    async def settles(self, person, session, replica, ends, turn):
        """Who is in gets 200 here, who is out does not."""
        while True:
            async with turn:
                answer = await person.visit(session, replica)
            if session.state not in (IN, OUT):
                return None
            if answer and (answer.status == 200) == (session.state == IN) and answer.status < 500:
                return self.model.findings.good("recovers")
            await asyncio.sleep(1.2)
            if time.time() > self.put_off(ends):
                break
        if session.state == OUT and self.model.may_be_undone(session):
            session.over("its sign-out may have been lost")
            return self.model.findings.excuse("recovers")
        if session.state in (IN, OUT):
            told = f"{answer.status} {answer.reason}" if answer else "no answer"
            self.model.findings.bad("recovers", f"{replica.name} answers {told} to {session.user} ({session.state}"
                                    f"{self.model.how_it_left(session)}) {RECOVERY} s after the faults", time.time())
            session.over("found")
        return None

    async def end(self):
        if self.under_way:
            await asyncio.wait(set(self.under_way), timeout=120)
        for task in [*self.tasks, *self.under_way]:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(1.5)  # what is judged later
        self.model.read_provider()
        await self.stop_replicas()
        self.secrets.gather(self.people + self.programs)
        self.secrets.in_logs(self.model.findings, time.time())

    async def stop_replicas(self):
        for replica in self.world.replicas:
            if replica.process.poll() is None:
                replica.send(signal.SIGCONT)
                replica.send(signal.SIGTERM)
        for replica in self.world.replicas:
            if not await fault.ended(replica.process, 15) or replica.process.returncode != 0:
                self.faults.bad(f"{replica.name} ended with {replica.process.poll()} at the end of the run")

    async def clean_up(self):
        for task in [*self.tasks, *self.under_way]:
            task.cancel()
        await self.world.end()
        if self.world.disk:
            fault.unmount(f"{self.world.folder}/replica0/disk")

    def faults_here(self):
        library = fault.has_clock()
        return fault.faults_of(self.world.store, library, self.world.disk)


async def chaos(store, folder, binary, seed, minutes, people, only=()):
    """The model of a finished run."""
    os.makedirs(folder)
    run = Run(store, folder, binary, seed, people, small_disk=store == "file")
    try:
        await run.start()
        faults = {name: how for name, how in run.faults_here().items() if not only or name in only}
        steps = fault.plan(seed, minutes, faults, len(run.world.replicas))
        with open(f"{folder}/plan", "w") as file:
            file.writelines(f"{step.at:8.2f} s  {step.name} {step.target} for {step.lasts} s\n" for step in steps)
        run.begin_clients()
        await run.carry_out(steps)
        await run.end()
        return run.model
    finally:
        await run.clean_up()

"""No faults, only time: logins, refreshes, streams, and floods of unknown tokens, at a steady rate. What a process holds is written
down every ten seconds, and must not grow steadily over the second half."""
import asyncio
import os
import random
import time

from people import COOKIE, LIMIT
from run import Run
from web import Broken, ask, head

EVERY = 10.0
FLOOD = 40  # bad tokens a second
STREAMS = 12
# Over the second half: growth that a line through it shows, as a share, and what is too little to matter.
GROWTH, MEMORY, COUNT = 0.05, 4 * 1024, 6
COLUMNS = ["seconds", "replica", "rss_kib", "descriptors", "threads", "p50_ms", "p99_ms", "requests"]


def sample(process):
    with open(f"/proc/{process.pid}/status") as file:
        told = dict(line.split(":", 1) for line in file)
    return (int(told["VmRSS"].split()[0]), len(os.listdir(f"/proc/{process.pid}/fd")), int(told["Threads"]))


def line_through(points):
    """Slope and start of the straight line nearest to these points, and how much of what varies it explains."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    sxx = sum((x - mx) ** 2 for x, _ in points)
    sxy = sum((x - mx) * (y - my) for x, y in points)
    syy = sum((y - my) ** 2 for _, y in points)
    slope = sxy / sxx if sxx else 0.0
    return slope, my - slope * mx, (sxy * sxy / (sxx * syy) if sxx and syy else 0.0)


class Soak:
    def __init__(self, run):
        self.run, self.world, self.rows, self.took, self.tasks = run, run.world, [], {}, []

    async def flood(self, dice):
        """Tokens that nobody knows, each once, of addresses that change slowly."""
        host = self.world.origin.removeprefix("http://")
        while True:
            await asyncio.sleep(1 / FLOOD)
            replica = dice.choice(self.world.replicas)
            headers = {"Authorization": f"Bearer {dice.randbytes(20).hex()}"}
            source = f"127.0.2.{1 + int(time.time() / 7) % 200}"
            try:
                answer = await ask(replica.port, "GET", "/api/x", host, headers, limit=LIMIT, source=source)
            except Broken as problem:
                self.run.model.broken(replica.name, time.time(), problem, "a stranger")
                continue
            self.run.model.program_answered(replica.name, answer, good=False)

    async def stream(self, person, dice):
        """An event stream, for as long as the session lives or half a minute."""
        host = self.world.origin.removeprefix("http://")
        while True:
            await asyncio.sleep(dice.uniform(0.5, 3))
            if not person.session:
                continue
            replica, ends, writer = dice.choice(self.world.replicas), time.time() + dice.uniform(5, 30), None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
                headers = {"Accept": "text/event-stream", "Cookie": f"{COOKIE}={person.session.cookie}"}
                writer.write(head("GET", "/stream", host, headers, b""))
                while time.time() < ends and await asyncio.wait_for(reader.read(4096), 5):
                    pass
            except (OSError, TimeoutError):
                pass
            finally:
                if writer:
                    writer.transport.abort()

    async def watch(self, path):
        began = time.time()
        with open(path, "w") as file:
            file.write(",".join(COLUMNS) + "\n")
        while True:
            await asyncio.sleep(EVERY)
            for replica in self.world.replicas:
                took = sorted(self.run.model.took.pop(replica.name, [])) or [0.0]
                p50, p99 = (round(1000 * took[int(share * (len(took) - 1))], 1) for share in (0.5, 0.99))
                row = [round(time.time() - began, 1), replica.name, *sample(replica.process), p50, p99, len(took)]
                self.rows.append(row)
                with open(path, "a") as file:
                    file.write(",".join(map(str, row)) + "\n")

    def judge(self):
        """What grew, in words."""
        grown = []
        for name in {row[1] for row in self.rows}:
            mine = [row for row in self.rows if row[1] == name]
            mine = mine[len(mine) // 2:]
            for at, least in ((2, MEMORY), (3, COUNT), (4, COUNT)):
                points = [(row[0], row[at]) for row in mine]
                slope, start, fit = line_through(points)
                first, last = (start + slope * points[n][0] for n in (0, -1))
                text = f"{name} {COLUMNS[at]}: from {first:.0f} to {last:.0f} over the second half"
                print(text, f"(a line explains {fit:.0%})")
                if last - first > max(least, GROWTH * first) and fit > 0.5:
                    grown.append(text)
        return grown


def chart(rows, path):
    """RSS, descriptors and p99 of each replica, one below the other."""
    width, height, left, parts = 640, 110, 90, []
    names, most_time = sorted({row[1] for row in rows}), max(row[0] for row in rows)
    colours = dict(zip(names, ["#2456d6", "#c2410c", "#15803d"]))
    for place, (at, title) in enumerate([(2, "RSS, MiB"), (3, "descriptors"), (6, "p99, ms")]):
        top, scale = 20 + place * (height + 30), 1024 if at == 2 else 1
        most = max(row[at] for row in rows) * 1.1 or 1
        parts.append(f'<text x="4" y="{top + 12}">{title}</text><text x="{left - 6}" y="{top + 24}" text-anchor="end">'
                     f'{most / scale:.0f}</text><path d="M{left} {top}V{top + height}H{left + width}" stroke="#999"/>')
        for name in names:
            points = " ".join(f"{left + row[0] / most_time * width:.1f},{top + height - row[at] / most * height:.1f}"
                              for row in rows if row[1] == name)
            parts.append(f'<polyline points="{points}" stroke="{colours[name]}"/>')
    bottom = 20 + 3 * (height + 30)
    parts.append(f'<text x="{left}" y="{bottom}">{most_time / 60:.0f} minutes; {", ".join(names)}</text>')
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 10} {bottom + 10}" '
                   f'font-family="sans-serif" font-size="12" fill="none"><rect width="100%" height="100%" fill="#fff"/>'
                   f'<g fill="none">{"".join(p for p in parts)}</g></svg>\n'.replace("<text", '<text fill="#222"'))


async def run(folder, binary, options):
    os.makedirs(f"{folder}/run")
    run = Run(options.store, f"{folder}/run", binary, options.seed, options.people)
    try:
        await run.start()
        soak = Soak(run)
        run.begin_clients()
        works = [soak.watch(f"{folder}/soak.csv"), soak.flood(random.Random(f"{options.seed} flood"))]
        works += [soak.stream(person, random.Random(f"{options.seed} stream {n}"))
                  for n, person in enumerate(run.people[:STREAMS])]
        for work in works:
            run.keep_going(work)
        await asyncio.sleep(options.minutes * 60)
        grown = soak.judge()
        chart(soak.rows, f"{folder}/soak.svg")
        await run.end()
        for _, line in run.model.findings.found:
            print(line)
        print(", ".join(f"{count} {name}" for name, count in run.model.counts.items()))
        print(f"{folder}/soak.csv, {folder}/soak.svg")
        passed, failed = run.model.findings.counts()
        failed += len(grown)
        print(*(f"GROWS {text}" for text in grown), sep="\n")
        print(f"{passed + (not grown)} passed, {failed} failed")
        return failed
    finally:
        await run.clean_up()

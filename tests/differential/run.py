"""Sends the same odd requests to real apps through Doorward and directly; see README.md. run.sh installs what is needed."""
import argparse
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

import apps
import fronts
import suite
from processes import Processes

ROOT = pathlib.Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--count", type=int, help="requests for each app and host, 5000 by default, 1000 for the self-test")
    parser.add_argument("--only", default="", help="names of apps, separated by commas")
    parser.add_argument("--self-test", action="store_true", help="whether the suite sees the leaks of naive proxies")
    parser.add_argument("--doorward", default=os.environ.get("DOORWARD", ROOT / "target/release/doorward"))
    chosen = parser.parse_args()
    chosen.count = chosen.count or (1000 if chosen.self_test else 5000)
    return chosen


def main():
    # So that `finally` ends the processes then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = arguments()
    work = pathlib.Path(tempfile.mkdtemp(prefix="differential-"))
    work.chmod(0o755)
    processes = Processes(work)
    try:
        started = apps.start(processes, [name for name in chosen.only.split(",") if name])
        print(f"seed {chosen.seed}, {chosen.count} requests for each of {len(started)} apps", flush=True)
        checks = self_test(processes, started, chosen) if chosen.self_test else against_doorward(processes, started, chosen)
    finally:
        processes.end()
        shutil.rmtree(work, ignore_errors=True)
    failed = [check for check in checks if not check[1]]
    for what, _, why in failed:
        print(f"FAILED {what}: {why}")
    print(f"{len(checks) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def against_doorward(processes, started, chosen):
    front = fronts.Doorward(processes, chosen.doorward, started)
    checks = []
    for app, result in results(front, started, chosen):
        least = max(1, app.least * chosen.count // 5000) if app.least else 0
        result.check("the app itself serves the secret by odd ways", result.odd >= least, f"{result.odd} times; {least} are needed")
        checks += [(f"{app.name}: {what}", is_good, why) for what, is_good, why in result.checks]
        if front.process.poll() is not None:
            break
    checks.append(("the gateway lives", front.is_alive(), f"exit code {front.process.poll()}"))
    checks.append(("the gateway did not panic", "panicked" not in front.log(), front.log()[-2000:]))
    return checks


def self_test(processes, started, chosen):
    """Each proxy here is naive in another way; the suite is good if it says so. Where an app has no spelling that passes the proxy,
    there is nothing to see."""
    checks = []
    for make in (fronts.naive_prefix, fronts.naive_nginx):
        front = make(processes, started)
        leaks = forged = 0
        for app, result in results(front, started, chosen):
            found = len(result.found("secret"))
            leaks += found
            forged += len(result.found("forged"))
            if front.name == "naive-prefix" and result.past_open + (0 if app.has_aliases else result.past_closed):
                checks.append((f"{front.name}, {app.name}: a leak is seen", found > 0, f"{result.odd} odd ways to the secret"))
        checks.append((f"{front.name}: leaks are seen", leaks > 0, "none"))
        if any(app.echoes for app in started):
            checks.append((f"{front.name}: forged headers are seen", forged > 0, "none"))
    return checks


def results(front, started, chosen):
    print(f"{'app':20} {'HTTP/1.1':>8} {'HTTP/2':>6} {'direct':>7} {'/public':>7} {'other':>6} {'leaks':>6} {'forged':>6} {'s':>5} "
          f"{'slowest':>7}  answers")
    for app in started:
        begun = time.monotonic()
        result = suite.run(app, front, random.Random(f"{chosen.seed} {app.name}"), chosen.count)
        answers = " ".join(f"{status}:{times}" for status, times in sorted(result.statuses.items()))
        sent = [result.requests.get(protocol, 0) for protocol in ("HTTP/1.1", "HTTP/2")]
        leaks, forged = len(result.found("secret")), len(result.found("forged"))
        print(f"{app.name:20} {sent[0]:8} {sent[1]:6} {result.odd:7} {result.past_open:7} {result.past_closed:6} {leaks:6} {forged:6} "
              f"{time.monotonic() - begun:5.0f} {result.slowest:6.1f}s  {answers}", flush=True)
        if not chosen.self_test:
            suite.report(front, result)
        yield app, result


if __name__ == "__main__":
    sys.exit(main())

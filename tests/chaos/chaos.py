"""Runs the real gateway under faults, and holds every answer to what docs/reliability.md promises. README.md tells the rest.

    python3 tests/chaos/chaos.py --store standalone --minutes 10 --seed 7
"""
import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile

from run import chaos
from troubles import PRINTED

STORES = ["standalone", "sentinel", "cluster", "file", "memory"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(100000))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--store", choices=STORES, default="standalone")
    parser.add_argument("--binary", default="target/release/doorward")
    parser.add_argument("--people", type=int, default=36)
    parser.add_argument("--only", help="names of faults, or of lies, with commas between: no others happen")
    parser.add_argument("--folder", help="where all is written, and kept; else a folder that is kept only after findings")
    parser.add_argument("--soak", action="store_true", help="no faults: load, and whether memory and descriptors grow")
    parser.add_argument("--self-test", action="store_true", help="whether planted faults are found")
    return parser.parse_args()


def report(model, seed):
    print("", *model.findings.summary(), sep="\n")
    print(", ".join(f"{count} {name}" for name, count in model.counts.items()))
    for why, count in model.excuses.items():
        print(f"sessions that ended for a reason: {count} because {why}")
    for rule in model.findings.rules:
        print(*model.findings.of(rule)[:PRINTED], sep="\n", end="\n" if model.findings.of(rule) else "")
    passed, failed = model.findings.counts()
    print(f"seed {seed}: {len(model.findings.found)} findings")
    print(f"{passed} passed, {failed} failed")
    return failed


async def run(options, folder):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    binary = os.path.abspath(options.binary)
    only = options.only.split(",") if options.only else ()
    if options.self_test:
        import selftest
        return await selftest.run(folder, binary, options.seed, only)
    if options.soak:
        import soak
        return await soak.run(folder, binary, options)
    model = await chaos(options.store, f"{folder}/run", binary, options.seed, options.minutes, options.people, only)
    with open(f"{folder}/faults.log", "w") as file:
        file.writelines(line + "\n" for line in model.troubles.lines)
    return report(model, options.seed)


def main():
    options = arguments()
    folder = os.path.abspath(options.folder) if options.folder else tempfile.mkdtemp(prefix="chaos-")
    os.makedirs(folder, exist_ok=True)
    print(f"seed {options.seed}, store {options.store}, {options.minutes} minutes, in {folder}", flush=True)
    failed = 1
    try:
        failed = asyncio.run(run(options, folder))
    finally:
        if failed == 0 and not options.folder:
            shutil.rmtree(folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""What is wrong at which time, as the run itself caused it, and what was found."""
import time

# Kinds of trouble. `store`, `provider`: the part itself, or the way to it from one replica.
# `stopped` as an operator does it, which must cost nobody anything but new connections; `changed`: nobody must notice.
STORE, PROVIDER, DEAD, FROZEN, STOPPED, CHANGED, EMPTIED, SLOW, APP, CLOCK = (
    "store", "provider", "dead", "frozen", "stopped", "changed", "emptied", "slow", "app", "clock")

PRINTED = 10  # findings of one rule; the rest is counted


class Trouble:
    def __init__(self, kind, replica, note, begin):
        self.kind, self.replica, self.note, self.begin, self.end = kind, replica, note, begin, None

    def touches(self, replicas, a, b, after):
        mine = self.replica is None or replicas is None or self.replica in replicas
        return mine and self.begin <= b and (self.end is None or self.end + after >= a)


class Troubles:
    """`after`: by kind, the time that its consequences may last once it has ended."""

    def __init__(self, after):
        self.began, self.after, self.all, self.lines = time.time(), after, [], []

    def since(self, at=None):
        return (time.time() if at is None else at) - self.began

    def begin(self, kind, replica, note, at=None):
        trouble = Trouble(kind, replica, note, at or time.time())
        self.all.append(trouble)
        return trouble

    def end(self, trouble):
        trouble.end = time.time()

    def tell(self, text):
        line = f"{self.since():8.2f} s  {text}"
        self.lines.append(line)
        print(line, flush=True)

    def near(self, kinds, replicas, a, b, after=None):
        """One of these kinds that concerns one of these replicas (None: any) at some time between a and b."""
        for trouble in reversed(self.all):
            if trouble.kind in kinds:
                margin = self.after[trouble.kind] if after is None else after
                if trouble.touches(replicas, a, b, margin):
                    return trouble
        return None

    def frozen_for(self, replica, a, b):
        frozen = [t for t in self.all if t.kind in (FROZEN, SLOW) and t.replica in (None, replica)]
        return sum(max(0.0, min(b, t.end or b) - max(a, t.begin)) for t in frozen)

    def around(self, a, b):
        """For the report of a finding."""
        return [f"{t.note} ({self.since(t.begin):.1f} to {'now' if t.end is None else f'{self.since(t.end):.1f}'})"
                for t in self.all if t.kind != SLOW and t.touches(None, a, b, 8.0)]


class Findings:
    """By rule. A rule that saw nothing to judge has neither passed nor failed."""

    def __init__(self, troubles, rules):
        self.troubles, self.rules = troubles, rules
        self.judged = {rule: 0 for rule in rules}
        self.excused = {rule: 0 for rule in rules}
        self.found = []

    def good(self, rule):
        self.judged[rule] += 1

    def excuse(self, rule):
        self.judged[rule] += 1
        self.excused[rule] += 1

    def bad(self, rule, text, at, until=None):
        self.judged[rule] += 1
        around = "; ".join(self.troubles.around(at - 8, until or at)) or "no fault was near"
        line = f"FOUND {rule}: at {self.troubles.since(at):.2f} s: {text} [{around}]"
        self.found.append((rule, line))
        if len(self.of(rule)) <= PRINTED:
            self.troubles.tell(line)

    def of(self, rule):
        return [line for name, line in self.found if name == rule]

    def summary(self):
        lines = []
        for rule, meaning in self.rules.items():
            state = "FAILED" if self.of(rule) else "passed" if self.judged[rule] else "not seen"
            lines.append(f"{state:8} {rule:10} {meaning}: judged {self.judged[rule]}, excused {self.excused[rule]}, "
                         f"found {len(self.of(rule))}")
        return lines

    def counts(self):
        failed = sum(1 for rule in self.rules if self.of(rule))
        return sum(1 for rule in self.rules if self.judged[rule]) - failed, failed

"""The results of a run as tables, and as a chart: table.py RESULTS CHART VARIANT... CHART may be empty; it shows the first
table."""
import re, statistics, sys

path, chart, *names = sys.argv[1:]
rows = [line.split() for line in open(path)]
# What a variant is asked for besides a plain request: only what is asked for the same compares.
ASKED = re.compile(r"_(tls|logged|h2_\d+|(?:down|up)_\d+[km]|websocket)$")
OTHERS = ("nginx", "bare", "haproxy", "apache", "other")
UNITS = {"k": 1 << 10, "m": 1 << 20}


def column(name, at):
    return [float(row[at]) for row in rows if row[0] == name]


def median(name, at):
    return statistics.median(column(name, at))


def asked(name):
    found = ASKED.search(name)
    return found[1] if found else ""


def against(name, server):
    other = f"{server}_{asked(name)}".rstrip("_")
    return f"{median(name, 1) / median(other, 1):.2f}" if other in names else "-"


def spread(name):
    rates = column(name, 1)
    return f"{(max(rates) - min(rates)) / statistics.median(rates) * 100:.0f} %"


def megabytes(name):
    size = asked(name).partition("_")[2]
    return median(name, 1) * int(size[:-1]) * UNITS[size[-1]] / 1e6


def table(shown, unit, bodies=False):
    if not shown:
        return
    print(f"| variant | {unit}/s |{' MB/s |' * bodies} spread | / bare | / nginx | p50 us | p99 us | CPU us/{unit} |")
    print(f"|---|---:|{'---:|' * bodies}---:|---:|---:|---:|---:|---:|")
    for name in shown:
        rate, p50, p99, cpu = (median(name, at) for at in range(1, 5))
        more = f" {megabytes(name):.0f} |" if bodies else ""
        print(f"| {name.replace('_', ' ')} | {rate:.0f} |{more} {spread(name)} | {against(name, 'bare')} "
              f"| {against(name, 'nginx')} | {p50:.0f} | {p99:.0f} | {f'{cpu:.1f}' if cpu else '-'} |")
    print()


plain = [name for name in names if asked(name) in ("", "tls", "logged")]
table(plain, "req")
table([name for name in names if asked(name).startswith("h2_")], "req")
table([name for name in names if asked(name).startswith(("down_", "up_"))], "req", bodies=True)
table([name for name in names if asked(name) == "websocket"], "message")

if chart and plain:
    line, left, width = 26, 190, 420
    most = max(median(name, 1) for name in plain)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Requests a second by variant" '
             f'viewBox="0 0 {left + width + 90} {line * len(plain) + 12}" font-family="sans-serif" font-size="13">',
             '<rect width="100%" height="100%" fill="#fff"/>']
    for at, name in enumerate(plain):
        top, rate = at * line + 8, median(name, 1)
        colour = "#9aa5b8" if name.startswith(OTHERS) else "#2456d6"
        parts.append(f'<text x="{left - 10}" y="{top + 14}" text-anchor="end">{name.replace("_", " ")}</text>'
                     f'<rect x="{left}" y="{top}" width="{rate / most * width:.0f}" height="18" fill="{colour}"/>'
                     f'<text x="{left + rate / most * width + 8:.0f}" y="{top + 14}">{rate:.0f}</text>')
    open(chart, "w").write("\n".join(parts) + "\n</svg>\n")

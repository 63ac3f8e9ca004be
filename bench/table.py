"""The results of a run as a table, and as a chart: table.py RESULTS CHART VARIANT... CHART may be empty."""
import statistics, sys

path, chart, *names = sys.argv[1:]
rows = [line.split() for line in open(path)]


def column(name, at):
    return [float(row[at]) for row in rows if row[0] == name]


def median(name, at):
    return statistics.median(column(name, at))


def against(name, other):
    other = other + "_tls" if name.endswith("_tls") else other
    return f"{median(name, 1) / median(other, 1):.2f}" if other in names else "-"


def spread(name):
    rates = column(name, 1)
    return f"{(max(rates) - min(rates)) / statistics.median(rates) * 100:.0f} %"


print("| variant | req/s | spread | / bare | / nginx | p50 us | p99 us | CPU us/req |")
print("|---|---:|---:|---:|---:|---:|---:|---:|")
for name in names:
    rps, p50, p99, cpu = (median(name, at) for at in range(1, 5))
    print(f"| {name.replace('_', ' ')} | {rps:.0f} | {spread(name)} | {against(name, 'bare')} | {against(name, 'nginx')} "
          f"| {p50:.0f} | {p99:.0f} | {cpu:.1f} |")

if chart:
    line, left, width = 26, 190, 420
    most = max(median(name, 1) for name in names)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Requests a second by variant" '
             f'viewBox="0 0 {left + width + 90} {line * len(names) + 12}" font-family="sans-serif" font-size="13">',
             '<rect width="100%" height="100%" fill="#fff"/>']
    for at, name in enumerate(names):
        top, rate = at * line + 8, median(name, 1)
        colour = "#9aa5b8" if name.startswith(("nginx", "bare")) else "#2456d6"
        parts.append(f'<text x="{left - 10}" y="{top + 14}" text-anchor="end">{name.replace("_", " ")}</text>'
                     f'<rect x="{left}" y="{top}" width="{rate / most * width:.0f}" height="18" fill="{colour}"/>'
                     f'<text x="{left + rate / most * width + 8:.0f}" y="{top + 14}">{rate:.0f}</text>')
    open(chart, "w").write("\n".join(parts) + "\n</svg>\n")

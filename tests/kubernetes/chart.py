"""Renders the chart as `helm template` does: chart.py CHART < values.yaml. What Helm refuses goes to standard error, with exit code 1."""
import sys

import helm_python as helm

try:
    values = helm.values_from_yaml(sys.stdin.read() or "{}")
    with helm.Chart.load(sys.argv[1]) as chart:
        chart.validate_schema(values)
        for name, text in sorted(chart.render(values, name="doorward", namespace="auth").items()):
            if text.strip() and not name.endswith("NOTES.txt"):
                print(f"---\n# {name}\n{text.strip()}")
    bad = [message for message in helm.lint(sys.argv[1], values, strict=True)["messages"] if message["severity"] > 1]
    if bad:
        sys.exit(f"lint: {bad}")
except helm.HelmError as refused:
    sys.exit(str(refused))

"""Renders the chart as `helm template` does: chart.py CHART < values.yaml. What Helm refuses goes to standard error, with exit code 1."""
import sys

import helm_python as helm


def render(chart_folder, values):
    """The manifests, as one text."""
    with helm.Chart.load(chart_folder) as chart:
        chart.validate_schema(values)
        files = sorted(chart.render(values, name="doorward", namespace="auth").items())
    bad = [message for message in helm.lint(chart_folder, values, strict=True)["messages"] if message["severity"] > 1]
    if bad:
        raise helm.HelmError(f"lint: {bad}")
    wanted = [(name, text.strip()) for name, text in files if text.strip() and not name.endswith("NOTES.txt")]
    return "\n".join(f"---\n# {name}\n{text}" for name, text in wanted)


if __name__ == "__main__":
    try:
        print(render(sys.argv[1], helm.values_from_yaml(sys.stdin.read() or "{}")))
    except helm.HelmError as refused:
        sys.exit(str(refused))

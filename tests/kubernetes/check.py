"""Checks every resource in deploy/ and docs/ against its schema, and the plain manifests against the chart. Where all is well
it breaks one thing after the other, and wants to be told of each."""
import copy
import json
import pathlib
import re
import sys
import textwrap

import helm_python
import jsonschema
import kubernetes_validate
import yaml

from chart import render

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/doorward"
OLDEST, NEWEST = "1.25", "1.37"
SCHEMAS = [json.loads(path.read_text()) for path in pathlib.Path(__file__).parent.glob("crds/*.json")]
CRDS = {schema["properties"]["kind"]["const"]: jsonschema.Draft202012Validator(schema) for schema in SCHEMAS}

# Where the chart may differ from deploy/kubernetes/doorward.yaml.
ALLOWED = {
    r".*/metadata/labels/(helm\.sh/chart|app\.kubernetes\.io/(version|managed-by))": "labels of Helm's own",
    r"/Deployment doorward/spec/template/metadata/annotations": "a checksum; who edits the plain manifest restarts by hand",
}


class Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, as kubectl does."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_all(text):
    return [document for document in yaml.load_all(text, Loader) if document is not None]


def problems(resource):
    """Why Kubernetes would refuse it."""
    if crd := CRDS.get(resource["kind"]):
        return [f"{error.json_path}: {error.message}" for error in crd.iter_errors(resource)]
    try:
        for version in [OLDEST, NEWEST]:
            kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


def differences(plain, chart, path):
    if isinstance(plain, dict) and isinstance(chart, dict):
        for key in sorted(plain.keys() | chart.keys()):
            yield from differences(plain.get(key), chart.get(key), f"{path}/{key}")
    elif isinstance(plain, list) and isinstance(chart, list) and len(plain) == len(chart):
        for index, (left, right) in enumerate(zip(plain, chart)):
            yield from differences(left, right, f"{path}/{index}")
    elif plain != chart and not any(re.fullmatch(allowed, path) for allowed in ALLOWED):
        yield f"{path}: {plain} is in the plain manifest, {chart} in the chart"


def by_name(resources):
    named = {f"{resource['kind']} {resource['metadata']['name']}": copy.deepcopy(resource) for resource in resources}
    for resource in named.values():
        if resource["kind"] == "ConfigMap":
            resource["data"] = {name: yaml.load(text, Loader) for name, text in resource["data"].items()}
    return named


def drift(plain, chart):
    return list(differences(by_name(plain), by_name(chart), ""))


def same_values(plain):
    """Values with which the chart should render the plain manifests; what its defaults say is left to them."""
    plain = by_name(plain)
    config = plain["ConfigMap doorward"]["data"]["config.yaml"]
    [container] = plain["Deployment doorward"]["spec"]["template"]["spec"]["containers"]
    own = {key: value for key, value in config.items() if key not in ["listen", "shutdown_delay", "shutdown_grace"]}
    return {
        "replicaCount": 2,
        "image": {"repository": container["image"].rpartition(":")[0]},
        "existingSecret": "doorward",
        "config": own | {"admin": {"token": config["admin"]["token"]}},
        "networkPolicy": {
            "enabled": True,
            "adminFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        },
    }


def merged(values, more):
    """As Helm merges them."""
    if isinstance(values, dict) and isinstance(more, dict):
        return {key: merged(values.get(key), more[key]) if key in more else values[key] for key in values | more}
    return more


def blocks(document):
    for _, text in re.findall(r"^( *)```yaml\n(.*?)^\1```", document.read_text(), re.S | re.M):
        yield textwrap.dedent(text)


def resources():
    """Every resource, with the place where it is."""
    for path in sorted((ROOT / "deploy").rglob("*.yaml")):
        if CHART not in path.parents and "\napiVersion:" in (text := path.read_text()):
            yield from ((path.name, resource) for resource in load_all(text))
    alerts = yaml.load((ROOT / "deploy/prometheus/rules.yaml").read_text(), Loader)
    yield "rules.yaml", {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
                         "metadata": {"name": "doorward"}, "spec": alerts}
    known = yaml.load((CHART / "values.yaml").read_text(), Loader)
    whole = None
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for text in blocks(document):
            is_resource = re.match(r"apiVersion: .*\nkind: ", text)
            if not is_resource and document.name != "kubernetes.md":
                continue
            block = yaml.load(text, Loader)
            if is_resource:
                yield document.name, block
            elif block.keys() == {"filters"}:
                yield document.name, {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                                      "metadata": {"name": "of-the-document"}, "spec": {"rules": [block]}}
            elif block.keys() <= known.keys():
                # The first is whole, the others add to it.
                whole = whole or block
                values = merged(merged(whole, block), {"serviceMonitor": {"enabled": True}})
                where = f"{document.name}, values {sorted(block)}"
                try:
                    manifests = load_all(render(str(CHART), values))
                except helm_python.HelmError as refused:
                    sys.exit(f"{where}: {refused}")
                yield from ((where, resource) for resource in manifests)
            else:
                sys.exit(f"{document.name}: neither a resource nor values of the chart: {block}")


def broken(node, values):
    """Copies of it, each with one thing wrong: another value, or a mapping with a key that no schema knows."""
    if isinstance(node, dict):
        if not values:
            yield node | {"misspelt": {"x": 1}}
        for key, below in node.items():
            yield from (node | {key: wrong} for wrong in broken(below, values))
    elif isinstance(node, list):
        for index, below in enumerate(node):
            yield from (node[:index] + [wrong] + node[index + 1:] for wrong in broken(below, values))
    elif values:
        yield f"not {node}"


def main():
    found = list(resources())
    complaints = [f"{where}: {resource['kind']}: {problem}" for where, resource in found for problem in problems(resource)]
    plain = load_all((ROOT / "deploy/kubernetes/doorward.yaml").read_text())
    chart = load_all(render(str(CHART), same_values(plain)))
    complaints += drift(plain, chart)
    if complaints:
        sys.exit("\n".join(complaints))

    unused = CRDS.keys() - {resource["kind"] for _, resource in found}
    assert not unused, f"a schema without a resource: {unused}"
    tried = 0
    for where, resource in found:
        if resource["kind"] in CRDS:
            for wrong in [resource | {"apiVersion": "v1"}, *broken(resource, False)]:
                assert problems(wrong), f"{where}: it passes, and must not: {wrong}"
                tried += 1
    for wrong in [plain[1:], plain + [chart[0] | {"kind": "Secret"}], *broken(plain, True)]:
        assert drift(wrong, chart), f"no drift is seen: {wrong}"
        tried += 1
    print(f"{len(found)} resources are valid; {tried} broken ones are refused")


main()

"""Makes a JSON schema of one kind out of its CustomResourceDefinition: crds.py KIND SOURCE <crd.yaml >crds/kind.json

Without descriptions and CEL rules, and strict: the API server would drop an unknown field, the schema refuses it."""
import json
import sys

import yaml

METADATA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}
DROPPED = ["default", "description", "example", "nullable"]


def strict(schema):
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key not in DROPPED}
    if "properties" in schema:
        made["properties"] = {name: strict(below) for name, below in schema["properties"].items()}
    for key in ["items", "additionalProperties"]:
        if isinstance(schema.get(key), dict):
            made[key] = strict(schema[key])
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and not is_open:
        made["additionalProperties"] = False
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made


def main(kind, source):
    [crd] = [crd for crd in yaml.safe_load_all(sys.stdin) if crd["spec"]["names"]["kind"] == kind]
    # The version that is stored is the one to write.
    [version] = [version for version in crd["spec"]["versions"] if version["storage"]]
    made = strict(version["schema"]["openAPIV3Schema"])
    made["properties"].pop("status", None)
    made["properties"]["apiVersion"] = {"const": f"{crd['spec']['group']}/{version['name']}"}
    made["properties"]["kind"] = {"const": kind}
    made["properties"]["metadata"] = METADATA
    made["required"] = ["apiVersion", "kind", "metadata", "spec"]
    print(json.dumps({"$comment": f"{source}; made by crds.py", **made}, indent=1))


main(*sys.argv[1:])

"""What the published schema of OCSF says of an event: the part of it that concerns our two classes."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.support.commands import ROOT

SCHEMA: Final[dict[str, Any]] = json.loads((ROOT / "tests" / "data" / "ocsf-1.8.0.json").read_text())
_CLASSES: Final = {each["uid"]: each for each in SCHEMA["classes"].values()}
_FREE: Final = ("object", "json_t")  # whatever somebody puts there
_PYTHON: Final[dict[str, type]] = {
    "string_t": str,
    "integer_t": int,
    "long_t": int,
    "boolean_t": bool,
    "float_t": float,
}


def faults(event: Mapping[str, Any]) -> list[str]:
    """What is wrong with an event; nothing, for one that the schema allows."""
    described = _CLASSES[event["class_uid"]]
    return list(_faults(event, described["attributes"], described.get("constraints", {}), "event"))


def _faults(
    given: Mapping[str, Any], attributes: Mapping[str, Any], constraints: Mapping[str, Any], path: str
) -> Iterator[str]:
    for name, described in attributes.items():
        if described.get("required") and name not in given:
            yield f"{path} lacks {name}"
    if constraints and not set(constraints["at_least_one"]) & set(given):
        yield f"{path} has none of {constraints['at_least_one']}"
    for name, value in given.items():
        if name not in attributes:
            yield f"{path}.{name} is unknown"
            continue
        described = attributes[name]
        values = value if described.get("array") else [value]
        for each in values:
            yield from _value_faults(each, described, f"{path}.{name}")


def _value_faults(value: object, described: Mapping[str, Any], path: str) -> Iterator[str]:
    kind = described["type"]
    if kind in SCHEMA["objects"]:
        inner = SCHEMA["objects"][kind]
        if isinstance(value, dict):
            yield from _faults(value, inner["attributes"], inner["constraints"], path)
        else:
            yield f"{path} is no object"
    elif kind in SCHEMA["types"]:
        base = SCHEMA["types"][kind]
        if kind != "json_t" and type(value) is not _PYTHON[base if base in _PYTHON else SCHEMA["types"][base]]:
            yield f"{path} is no {kind}"
    elif kind not in _FREE:
        yield f"{path} is of a type that is not kept here: {kind}"
    if "values" in described and str(value) not in described["values"]:
        yield f"{path} is none of {list(described['values'])}"

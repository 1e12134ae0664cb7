"""The package lives beside the pins of a service: each range is wide, and a narrow one says why."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PYPROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"
TEXT: Final = PYPROJECT.read_text()
PROJECT: Final = tomllib.loads(TEXT)["project"]
REQUIREMENTS: Final = [
    *PROJECT["dependencies"],
    *PROJECT["optional-dependencies"]["postgres"],
    *PROJECT["optional-dependencies"]["server"],
    *PROJECT["optional-dependencies"]["metrics"],
]


@pytest.mark.parametrize("written", REQUIREMENTS)
def test_a_range_ends_at_a_major_version_or_says_which_private_interface_ends_it(written: str) -> None:
    requirement = Requirement(written)
    bounds = {bound.operator: Version(bound.version) for bound in requirement.specifier}
    assert set(bounds) == {">=", "<"}, "write the oldest version that passes .ci/lowest, and the end of the range"
    if any(bounds["<"].release[1:]):
        reason = re.search(rf'((?:^ *#[^\n]*\n)+) *"{re.escape(written)}"', TEXT, re.MULTILINE)
        assert reason is not None, "name the private interface in a comment above the range"
        named = re.findall(r"tests/[a-z_/]+\.py", reason[1])
        assert named, "name the test that fails when the interface changes"
        assert all((PYPROJECT.parent / path).is_file() for path in named), named

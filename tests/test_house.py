"""The house is as `.github/CONTRIBUTING.md` draws it, and says each thing in its own words."""

import re
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "alphalens_keyctl"
MAP: Final = ROOT / ".github" / "CONTRIBUTING.md"
# A room's line: "- `keys/` what it is for: `file` …, `file` …". The files of the package itself stand behind "- `/`".
_ROOM: Final = re.compile(r"^- `([a-z_/]*/)`(.*?)(?=^- `|\Z)", re.MULTILINE | re.DOTALL)
# What no reader of the repository can look up: an issue's number, or a page that is not in it.
_ELSEWHERE: Final = re.compile(
    r"\bissue\s+[0-9]+\b|\bdesign,\s*section\b|\bsection\s+[0-9]+\s+of the design\b", re.IGNORECASE
)
_WRITTEN: Final = ("*.py", "*.md", "*.toml", "*.fish", "*.bash", "_alphalens-keyctl")


def drawn() -> dict[str, set[str]]:
    """The rooms and files of the map."""
    house = MAP.read_text().partition("<!-- house -->")[2].partition("<!-- /house -->")[0]
    return {room: set(re.findall(r"`([a-z_]+)`", files)) for room, files in _ROOM.findall(house)}


def built() -> dict[str, set[str]]:
    """The rooms and files of the tree; migrations are numbered and need no line each."""
    rooms: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parent
        if path.name == "__init__.py" or "versions" in room.parts:
            continue
        rooms.setdefault("/" if room == Path() else f"{room}/", set()).add(path.stem)
    return rooms


def test_the_map_of_the_house_names_every_room_and_every_file() -> None:
    found, said = built(), drawn()
    wrong = [
        *(f"{room}{name}.py is not on the map" for room in found for name in found[room] - said.get(room, set())),
        *(
            f"{room}{name}.py is on the map and not there"
            for room in said
            for name in said[room] - found.get(room, set())
        ),
    ]
    assert not wrong, (
        f"{'; '.join(sorted(wrong))}: write it into 'The house' in .github/CONTRIBUTING.md, or take it out"
    )


def test_every_room_and_file_has_its_layer() -> None:
    """import-linter says so too; here with what to do."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = [contract for contract in contracts if contract["type"] == "layers"]
    assert {contract["containers"][0] for contract in layered} >= {"alphalens_keyctl"}
    for contract in layered:
        assert contract.get("exhaustive"), f"'{contract['name']}' lets a new file pass: give it exhaustive = true"
        folder = ROOT / contract["containers"][0].replace(".", "/")
        there = {path.stem for path in folder.glob("*.py") if path.stem != "__init__"}
        there |= {path.parent.name for path in folder.glob("*/__init__.py")}
        layers = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
        assert there <= layers, (
            f"{sorted(there - layers)} has no layer: put it into '{contract['name']}' in pyproject.toml"
        )


def test_no_test_file_imports_another() -> None:
    borrows = re.compile(r"^\s*(?:from|import)\s+tests\b[^\n(]*(?:\([^)]*)?\btest_\w+", re.MULTILINE)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        borrowed = borrows.search(path.read_text())
        assert not borrowed, f"{path.name}: '{borrowed and borrowed[0]}': move what both need to tests/support/"


def test_tests_mirror_the_package() -> None:
    """A room of tests is a room of the package, or one of the three that serve all tests."""
    rooms = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    known = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {"support", "services", "benchmarks"}
    assert rooms <= known, (
        f"tests/{'/, tests/'.join(sorted(rooms - known))}/ mirrors no room: name it after the room it tests"
    )


def test_nothing_cites_what_is_not_in_the_repository() -> None:
    """A promise has its number here, and is what code and tests cite."""
    written = [
        path
        for folder in ("alphalens_keyctl", "tests", "completions", ".github")
        for pattern in _WRITTEN
        for path in (ROOT / folder).rglob(pattern)
    ]
    written += [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "pyproject.toml"]
    cited = [
        f"{path.relative_to(ROOT)}:{number} says '{found[0]}'"
        for path in written
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := _ELSEWHERE.search(line))
    ]
    assert not cited, f"{'; '.join(cited)}: cite a promise by its number, or say what holds"


def test_every_promise_that_is_cited_stands_in_the_list() -> None:
    listed = {int(number) for number in re.findall(r"^([0-9]+)\. \*\*", MAP.read_text(), re.MULTILINE)}
    assert listed == set(range(1, len(listed) + 1))
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for numbers in re.findall(r"\bpromises?\s+((?:[0-9]+(?:,\s+|\s+and\s+)?)+)", path.read_text(), re.IGNORECASE):
            unknown = {int(number) for number in re.findall(r"[0-9]+", numbers)} - listed
            assert not unknown, (
                f"{path.relative_to(ROOT)} cites promise {unknown.pop()}, which .github/CONTRIBUTING.md has not"
            )

"""What the README says is what the program does."""

import re
import subprocess
import sys

from alphalens_keyctl import settings
from alphalens_keyctl.errors import Code
from alphalens_keyctl.models import Event, Key, Reason, Status, Use
from tests.commands import ROOT, Keyctl

README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", README, re.M | re.S)
    assert match is not None
    return match[2]


def test_the_readme_lists_every_exit_code_and_every_error_code() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.M)}
    # 4 and 5 are results rather than errors.
    assert codes == {code.exit_status for code in Code} | {0, 4, 5}
    listed = re.findall(r"`([a-z_]+)`", section("Exit codes").partition("Error codes:")[2])
    assert listed == [code.value for code in Code]


def test_the_readme_lists_the_fields_of_keys_events_and_uses_and_every_reason() -> None:
    assert f"K: `{' '.join(Key._fields)}`" in README
    assert f"E: `{' '.join(Event._fields)}`" in README
    assert f"U: `{' '.join(Use._fields)}`" in README
    assert f"a reason: `{'` `'.join(Reason)}`" in " ".join(section("For pipelines").split())


def test_the_commands_about_usage_in_the_readme_run(keyctl: Keyctl) -> None:
    import shlex

    keyctl.create("billing")
    commands = re.findall(r"^alphalens-keyctl ([^|\n]*?) *(?:[|#].*)?$", section("Usage"), re.M)
    assert len(commands) == 4
    for command in commands:
        keyctl.ok(*shlex.split(command))


def test_the_readme_lists_every_setting_and_every_status() -> None:
    assert re.findall(r"^\| `([a-z_]+)` \|", section("Settings"), re.M) == list(settings.NAMES)
    marks = dict(re.findall(r"^\| (.) \| `([a-z]+)`", section("What a list shows"), re.M))
    from alphalens_keyctl.output.tables import DOTS

    assert marks == {dot[0]: status.value for status, dot in DOTS.items()}
    assert set(marks.values()) == {status.value for status in Status}


def test_the_readme_script_proves_an_exported_log_and_finds_a_change(keyctl: Keyctl) -> None:
    """Promise 7."""
    keyctl.create("é <b>[red]", "--owner", '"quoted"', "--label", "a=ü", "--purpose", "😀")
    keyctl.ok("rotate", "é <b>[red]")
    log = keyctl.ok("audit", "--jsonl").stdout
    match = re.search(r"<!-- chain -->\n```python\n(.*?)```", README, re.S)
    assert match is not None

    def prove(text: str) -> int:
        done = subprocess.run([sys.executable, "-c", match[1]], input=text.encode(), capture_output=True, check=False)
        return done.returncode

    assert prove(log) == 0
    assert prove(log.replace("quoted", "forged")) != 0
    assert prove("".join(log.splitlines(keepends=True)[1:])) != 0


def test_the_everyday_commands_of_the_readme_run(keyctl: Keyctl) -> None:
    import shlex

    commands = re.findall(r"^alphalens-keyctl (.*)$", section("Everyday"), re.M)
    assert len(commands) == 6
    for command in commands:
        keyctl.ok(*shlex.split(command))

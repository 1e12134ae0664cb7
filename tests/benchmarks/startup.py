"""How long until a command is done that does next to nothing: what a person waits for, and TAB."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks import processes, table
from tests.benchmarks.processes import Cost
from tests.benchmarks.scale import Scale

# What completions/alphalens-keyctl.bash sets when TAB is pressed at the end of such a line.
_TAB = {
    "TAB on a command": {"COMP_WORDS": "alphalens-keyctl li", "COMP_CWORD": "1"},
    "TAB on an option": {"COMP_WORDS": "alphalens-keyctl list --st", "COMP_CWORD": "2"},
}
_COMPLETE = {"_ALPHALENS_KEYCTL_COMPLETE": "complete_bash"}
_TYPER = processes.python("import typer")
_SQLMODEL = processes.python("import typer, sqlmodel")


def program(scale: Scale, folder: Path) -> list[table.Row]:
    """What needs no database: help, version, completion."""
    env = processes.environment(folder)
    measures: dict[str, Callable[[int], Cost]] = {"typer": _always(_TYPER, env)}
    for how, ours in _ways().items():
        for option in ("--help", "--version"):
            measures[option + how] = _always((*ours, option), env)
        for name, words in _TAB.items():
            pressed = env | _COMPLETE | words
            if not processes.output(ours, pressed).strip():
                raise RuntimeError(f"{name} completes nothing")
            measures[name + how] = _always(ours, pressed)
    costs = processes.in_turn(measures, scale.starts)
    base = costs.pop("typer").seconds
    return [table.duration(name, cost.seconds, base, "import typer", 2.5) for name, cost in costs.items()]


def commands(scale: Scale, folder: Path) -> list[table.Row]:
    """The short commands on a SQLite file of a few keys, as a CI job runs them."""
    env = processes.environment(folder)
    measures: dict[str, Callable[[int], Cost]] = {"sqlmodel": _always(_SQLMODEL, env)}
    for how, ours in _ways().items():
        begun = (*ours, "--database", str(folder / f"keys{len(measures)}.db"))
        subprocess.run([*begun, "list", "--json"], env=env, stdout=subprocess.DEVNULL, check=True)
        # In this order each round works on the key that it made.
        measures |= {
            f"list --json{how}": _always((*begun, "list", "--json"), env),
            f"create{how}": _on_its_key((*begun, "create"), (), env),
            f"rotate{how}": _on_its_key((*begun, "rotate"), (), env),
            f"revoke{how}": _on_its_key((*begun, "revoke"), ("--yes",), env),
        }
    costs = processes.in_turn(measures, scale.starts)
    base = costs.pop("sqlmodel").seconds
    return [table.duration(name, cost.seconds, base, "import typer, sqlmodel", 1.25) for name, cost in costs.items()]


def _ways() -> dict[str, tuple[str, ...]]:
    script = processes.installed_script()
    return {"": processes.PROGRAM} | ({", installed script": script} if script else {})


def _always(command: Sequence[str], env: Mapping[str, str]) -> Callable[[int], Cost]:
    return lambda _round: processes.run(command, env)


def _on_its_key(command: Sequence[str], options: Sequence[str], env: Mapping[str, str]) -> Callable[[int], Cost]:
    quiet = dict(env)

    def measure(number: int) -> Cost:
        begun, verb = command[:-1], command[-1]
        return processes.run((*begun, "--quiet", verb, f"key-{number}", *options), quiet)

    return measure

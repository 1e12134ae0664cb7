"""How long until a command is done that does next to nothing: what a person waits for, and TAB."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks import processes, table
from tests.benchmarks.processes import Cost
from tests.benchmarks.scale import Scale

_TAB = {
    "TAB on a command": ("li",),
    "TAB on an option": ("list", "--st"),
    "TAB on a key's name, SQLite": ("show", "ord"),
}
_COMMAND_GOAL = 1.4
_KEY_GOAL = 2.0
_WORK_GOAL = 0.9
_TYPER = processes.python("import typer")
_SQLMODEL = processes.python("import typer, sqlmodel")


def program(scale: Scale, folder: Path) -> list[table.Row]:
    """What answers at once: help, version, completion."""
    env = processes.environment(folder)
    created = (*processes.PROGRAM, "create", "orders", "--no-print", "--pipe-to", "true")
    subprocess.run(created, env=env, check=True, stderr=subprocess.DEVNULL)
    measures: dict[str, Callable[[int], Cost]] = {"typer": _always(_TYPER, env)}
    for how, ours in _ways().items():
        for line in ("--help", "rotate --help", "--version"):
            measures[line + how] = _always((*ours, *line.split()), env)
        for name, words in _TAB.items():
            asked = folder / f"{name}.request"
            asked.write_bytes(b"".join(word.encode() + b"\0" for word in ("alphalens-keyctl", *words)))
            if not processes.output((*ours, "__complete"), env, stdin=asked):
                raise RuntimeError(f"{name} completes nothing")
            measures[name + how] = _always((*ours, "__complete"), env, stdin=asked)
    costs = processes.in_turn(measures, scale.starts)
    base = costs.pop("typer").seconds
    goals = {name: _KEY_GOAL if "key" in name else _COMMAND_GOAL for name in costs}
    return [table.duration(name, cost.seconds, base, "import typer", goals[name]) for name, cost in costs.items()]


def commands(scale: Scale, folder: Path) -> list[table.Row]:
    """The short commands on a SQLite file of a few keys, as a CI job runs them."""
    env = processes.environment(folder)
    measures: dict[str, Callable[[int], Cost]] = {"sqlmodel": _always(_SQLMODEL, env)}
    for how, ours in _ways().items():
        begun = (*ours, "--database", str(folder / f"keys{len(measures)}.db"))
        subprocess.run([*begun, "create", "first"], env=env, stdout=subprocess.DEVNULL, check=True)
        # In this order each round works on the key that it made.
        measures |= {
            f"list --json{how}": _always((*begun, "list", "--json"), env),
            f"create{how}": _on_its_key((*begun, "create"), (), env),
            f"rotate{how}": _on_its_key((*begun, "rotate"), (), env),
            f"revoke{how}": _on_its_key((*begun, "revoke"), ("--yes",), env),
        }
    costs = processes.in_turn(measures, scale.starts)
    base = costs.pop("sqlmodel").seconds
    against = "import typer, sqlmodel"
    return [table.duration(name, cost.seconds, base, against, _WORK_GOAL) for name, cost in costs.items()]


def _ways() -> dict[str, tuple[str, ...]]:
    script = processes.installed_script()
    return {"": processes.PROGRAM} | ({", installed script": script} if script else {})


def _always(command: Sequence[str], env: Mapping[str, str], stdin: Path | None = None) -> Callable[[int], Cost]:
    return lambda _round: processes.run(command, env, stdin=stdin)


def _on_its_key(command: Sequence[str], options: Sequence[str], env: Mapping[str, str]) -> Callable[[int], Cost]:
    quiet = dict(env)

    def measure(number: int) -> Cost:
        begun, verb = command[:-1], command[-1]
        return processes.run((*begun, "--quiet", verb, f"key-{number}", *options), quiet)

    return measure

"""A command → the page of its help. The texts are those of the command's function: its docstring, in which a paragraph
`Examples:` holds command lines, its arguments and its options."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from alphalens_keyctl.cli.options.groups import OWN, Panel
from alphalens_keyctl.cli.topics import TOPICS
from alphalens_keyctl.output.pages import Page, Section
from alphalens_keyctl.settings import PROGRAM

# The headings of the program's `--help`, and the commands below each.
COMMAND_PANELS: Final[Mapping[str, Sequence[str]]] = {
    "Keys": ("create", "list", "show", "update", "revoke", "suspend", "resume", "rotate"),
    "Record and rules": ("audit", "policy"),
    "Services": ("verify", "serve", "serve-api"),
    "Set-up and help": ("login", "logout", "db", "config", "doctor", "completion", "help", "version"),
}
_ARGUMENTS: Final = "Arguments"
_COMMANDS: Final = "Commands"
_EXAMPLES: Final = "Examples:"


def of(command: Any, ctx: Any) -> Page:
    """Return the help of a command, or of a group of commands, that was called in the context `ctx`."""
    paragraphs, examples = _split(command.help or "")
    parameters = [each for each in command.params if each.name != "help" and not getattr(each, "hidden", False)]
    if ctx.parent is None:
        closing = [f"Topics, for '{PROGRAM} help TOPIC': {', '.join(TOPICS)}.", command.epilog]
    else:
        names = " ".join(each.opts[0] for each in ctx.find_root().command.params if each.name != "version")
        closing = [f"Options of the program work here too: {names}. See '{PROGRAM} --help'."]
    return Page(
        usage=" ".join([ctx.command_path, *_usage(command, parameters, alone=ctx.parent is not None)]),
        paragraphs=paragraphs,
        sections=[*_options(parameters), *_commands(command, root=ctx.parent is None)],
        examples=examples,
        closing=closing,
    )


def examples(command: Any) -> Sequence[str]:
    """Return the lines of a command's examples, remarks too."""
    return _split(command.help or "")[1]


def summary(command: Any) -> str:
    """Return one sentence about a command."""
    return command.short_help or _split(command.help or "")[0][0].partition(". ")[0].removesuffix(".") + "."


def _split(text: str) -> tuple[list[str], list[str]]:
    prose, _, lines = text.partition(_EXAMPLES)
    paragraphs = [" ".join(part.split()) for part in prose.split("\n\n")]
    return [part for part in paragraphs if part], [line.strip() for line in lines.splitlines() if line.strip()]


def _usage(command: Any, parameters: Sequence[Any], *, alone: bool) -> Iterator[str]:
    if any(each.param_type_name == "option" for each in parameters):
        yield "[OPTIONS]"
    for each in parameters:
        if each.param_type_name == "argument":
            name = _metavar(each)
            yield name if each.required else f"[{name}]"
    if hasattr(command, "commands"):
        yield "[COMMAND]" if command.invoke_without_command and alone else "COMMAND"


def _options(parameters: Sequence[Any]) -> list[Section]:
    titles = [_ARGUMENTS, OWN, *Panel]
    rows: dict[str, list[tuple[str, str]]] = {title: [] for title in titles}
    for each in parameters:
        title = each.rich_help_panel if isinstance(each.rich_help_panel, str) else OWN
        rows[_ARGUMENTS if each.param_type_name == "argument" else title].append((_term(each), _meaning(each)))
    return [Section(title, rows[title]) for title in titles if rows[title]]


def _commands(command: Any, *, root: bool) -> list[Section]:
    summaries = dict(command.summaries()) if hasattr(command, "summaries") else {}
    sections = []
    for title, names in COMMAND_PANELS.items() if root else ():
        rows = [(name, summaries.pop(name)) for name in names if name in summaries]
        sections.append(Section(title, rows))
    return [each for each in (*sections, Section(_COMMANDS, list(summaries.items()))) if each.rows]


def _term(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _metavar(parameter)
    # The short form first, as people read it: -q, --quiet.
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        names += " / " + ", ".join(parameter.secondary_opts)
    return names if _is_flag(parameter) else f"{names} {_metavar(parameter)}"


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return f"{name}..." if parameter.param_type_name == "argument" and parameter.nargs != 1 else name


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False))


def _meaning(parameter: Any) -> str:
    parts = [parameter.help or ""]
    default = parameter.default
    if _is_flag(parameter):
        if parameter.secondary_opts:
            parts.append(f"Default: {(parameter.opts if default else parameter.secondary_opts)[0]}.")
    elif parameter.show_default and isinstance(default, str | int | float | Enum):
        shown = default.value if isinstance(default, Enum) else default
        parts.append(f"Default: {f'{shown:g}' if isinstance(shown, float) else shown}.")
    if parameter.envvar:
        parts.append(f"Environment: {parameter.envvar}.")
    return " ".join(parts)

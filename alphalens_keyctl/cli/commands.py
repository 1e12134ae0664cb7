"""What all commands have in common: their help, the program's options behind them, and an answer to a guessed word."""

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, NoReturn, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from alphalens_keyctl.cli import guessed_words, help_page, run
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.output import channel, pages
from alphalens_keyctl.text import quoted

# The attribute of an error of Typer that holds the value it is about.
WRONG_VALUE: Final = "keyctl_wrong_value"
_BEHIND: Final = "behind_"

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Command(TyperCommand):
    """A command that hears the options of the program too."""

    def get_params(self, ctx: Any) -> Any:
        """Return the command's parameters, and behind them the options of the program."""
        return [*super().get_params(ctx), *_program_options(self, ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. An error about an option's value carries that value."""
        with _value_on_error(args):
            rest: list[str] = super().parse_args(ctx, args)
        return rest

    def get_help(self, ctx: Any) -> str:
        """Return the text of `--help`."""
        return pages.drawn(help_page.of(self, ctx), pages.Paper.of(sys.stdout))


class Group(TyperGroup):
    """Commands under a common word, without what Typer would do on its own account."""

    def get_params(self, ctx: Any) -> Any:
        """Return the group's parameters, and behind them the options of the program."""
        own = super().get_params(ctx)
        if ctx.parent is not None:
            return [*own, *_program_options(self, ctx)]
        for each in own:
            vars(each)["process_value"] = _unless_missing(each, type(each).process_value)
        return own

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. An error about an option's value carries that value."""
        with _value_on_error(args):
            rest: list[str] = super().parse_args(ctx, args)
        return rest

    def get_help(self, ctx: Any) -> str:
        """Return the text of `--help`."""
        return pages.drawn(help_page.of(self, ctx), pages.Paper.of(sys.stdout))

    def summaries(self) -> Mapping[str, str]:
        """Return the names of the commands, and one sentence about each."""
        return {name: help_page.summary(each) for name, each in self.commands.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called. For an unknown word the error names the command that may be meant."""
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            raise unknown_command(self, ctx.command_path, word)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Typer would end without a word on Ctrl-C; here that is an error like any other."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            notes = " ".join(getattr(interrupt, "__notes__", []))
            raise KeyctlError(Code.INTERRUPTED, "interrupted", notes) from interrupt


class App(typer.Typer):
    """An application whose commands are `Command`s."""

    def __init__(self, **settings: Any) -> None:
        # Typer's completion script for zsh evaluates what is completed; ours are in `completions/`.
        ours = {"cls": Group, "rich_markup_mode": None, "pretty_exceptions_enable": False, "add_completion": False}
        super().__init__(**ours | settings)

    def command(self, *name: Any, **settings: Any) -> Callable[[_Function], _Function]:
        """Return the decorator that makes a function a command of this application."""
        return super().command(*name, **{"cls": Command} | settings)


def tell_help(ctx: Any) -> NoReturn:
    """Leave with the help of a group of which no command was called, on stderr, as bad usage."""
    channel.note_drawn(pages.drawn(help_page.of(ctx.command, ctx), pages.Paper.of(sys.stderr)))
    raise typer.Exit(ExitStatus.USAGE)


def unknown_command(group: Any, path: str, word: str) -> KeyctlError:
    """Return the error for a word that is no command of `group`, which is called by `path`."""
    meant = guessed_words.meant_by(word, group.commands)
    if meant is None:
        hint = f"There are: {', '.join(group.commands)}. '{path} --help' says what they do."
    else:
        hint = f"Write '{path} {meant}'. '{path} {meant.split()[0]} --help' tells more."
    return KeyctlError(Code.USAGE, f"there is no command {quoted(word)}", hint)


@contextmanager
def _value_on_error(args: Sequence[str]) -> Iterator[None]:
    given = list(args)
    try:
        yield
    except Exception as error:
        names = getattr(getattr(error, "param", None), "opts", ())
        for number, argument in enumerate(given):
            name, equals, value = argument.partition("=")
            if name in names and (equals or number + 1 < len(given)):
                setattr(error, WRONG_VALUE, value if equals else given[number + 1])
        raise


def _unless_missing(option: Any, judge: Callable[..., Any]) -> Callable[..., Any]:
    """Return `process_value` for an option of the program that leaves None alone: to judge it Typer would load pydantic
    first, and `COMMAND --help` would take twice as long."""
    return lambda context, value: None if value is None else judge(option, context, value)


def _program_options(command: Any, ctx: Any) -> list[Any]:
    """Return the program's options as a command takes them: hidden, and without the names that the command itself uses.

    The same objects each time: the parser compares them by identity.
    """
    made: dict[int, list[Any]] = vars(command).setdefault("_program_options", {})
    program = ctx.find_root().command
    if id(program) not in made:
        own = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        made[id(program)] = [
            _behind(each, names)
            for each in program.params
            if (names := [name for name in each.opts if name not in own])
        ]
    return made[id(program)]


def _behind(option: Any, names: list[str]) -> Any:
    """Return a copy of a program's option that takes what stands behind a command, and nothing of the environment."""
    behind = copy.copy(option)
    vars(behind).pop("process_value", None)  # the program's own, see `_unless_missing`
    behind.opts, behind.hidden, behind.expose_value, behind.envvar = names, True, False, None
    behind.name = f"{_BEHIND}{option.name}"  # the parser goes by the name, and a command may have one of its own
    if behind.callback is None:
        behind.callback = _hear
    return behind


def _hear(ctx: Any, option: Any, value: Any) -> None:
    """Let a program's option that was given behind the command count."""
    root = ctx.find_root()
    if value in (None, False) or not isinstance(root.obj, run.Start):
        return
    given: Mapping[str, Any] = {option.name.removeprefix(_BEHIND): value}
    root.obj = replace(root.obj, options=replace(root.obj.options, **given))

"""Every error, also of usage → a message and an exit status."""

import os
import re
import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Any, Final, Protocol, runtime_checkable

import typer

from alphalens_keyctl.cli import guessed_words, help_page
from alphalens_keyctl.cli.commands import WRONG_VALUE
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.output import channel
from alphalens_keyctl.output.errors import error_document, error_lines
from alphalens_keyctl.settings import PROGRAM
from alphalens_keyctl.text import quoted

_MACHINE_FORMATS: Final = frozenset({"--json", "--jsonl"})
# What Typer guesses for an unknown option is often an option that does something else.
_GUESSES: Final = re.compile(r" ?(\(Possible options: [^)]*\)|Did you mean [^?]*\?)$")
# What Typer says of a value that is none of a type → what people say.
_PLAINLY: Final = {
    ", unable to parse string as an integer": "",
    ", unable to parse string as a number": "",
    "Value error, ": "",
    "Input should": "it should",
    "valid integer range": "whole number",
    "valid integer": "whole number",
    "valid float range": "number",
    "valid number": "number",
    "valid float": "number",
    "a number range": "a number",
}


@runtime_checkable
class _UsageError(Protocol):
    """An error of Typer about how the program was called. Its base class is Click's up to Typer 0.25, a copy of
    Click's up to 0.26 and Typer's own from 0.27 on; the method is the same in all of them."""

    def format_message(self) -> str: ...


def _options(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def for_machine(arguments: Sequence[str]) -> bool:
    """Return whether a machine reads along. Looked up in the raw arguments: some errors come before parsing."""
    return not _MACHINE_FORMATS.isdisjoint(_options(arguments))


def tell(error: BaseException, arguments: Sequence[str]) -> int:
    """Write to stderr what went wrong with a command of these arguments; return the exit status."""
    told = _as_keyctl_error(error)
    if for_machine(arguments):
        channel.note(error_document(told))
    else:
        terminal = channel.is_terminal(sys.stderr)
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or "--no-color" in _options(arguments)
        width = get_terminal_size().columns if terminal else None
        channel.note_drawn(error_lines(told, width=width, color=terminal and not plain))
    if "--debug" in _options(arguments):
        # Frames and messages only: the locals of a frame may hold a raw key.
        import traceback

        channel.note("".join(traceback.format_exception(error)).rstrip())
    return told.code.exit_status


def _as_keyctl_error(error: BaseException) -> KeyctlError:
    notes = " ".join(getattr(error, "__notes__", []))
    if isinstance(error, KeyctlError):
        hint = " ".join(part for part in (notes, error.hint) if part)
        return KeyctlError(error.code, error.told, hint)
    if isinstance(error, _UsageError):
        return KeyctlError(Code.USAGE, _usage_message(error), _help_hint(error))
    if isinstance(error, KeyboardInterrupt) or _was_interrupted(error):
        return KeyctlError(Code.INTERRUPTED, "interrupted", notes)
    if isinstance(error, typer.Abort):
        return KeyctlError(Code.DECLINED, "not confirmed", "Nothing was changed.")
    if isinstance(error, OSError):
        # Typer's help goes to stdout past us; what is left in the buffer would fail once more at exit.
        if sys.stdout is not None:
            channel.abandon(sys.stdout)
        return KeyctlError(Code.OUTPUT_FAILED, f"input or output failed: {error.strerror}", notes)
    return KeyctlError(
        Code.INTERNAL,
        f"this is a fault of {PROGRAM}: {type(error).__name__}",
        "Run with --debug before the command and report what it prints.",
    )


def _was_interrupted(error: BaseException) -> bool:
    """Typer raises Abort for Ctrl-C and for the end of input alike; only the first was meant as "stop"."""
    return isinstance(error, typer.Abort) and isinstance(error.__context__, KeyboardInterrupt)


def _usage_message(error: _UsageError) -> str:
    """Return a message of Typer without the names of its types, and with the value that is wrong."""
    message = _GUESSES.sub("", error.format_message())
    for theirs, ours in _PLAINLY.items():
        message = message.replace(theirs, ours)
    message = message[:1].lower() + message[1:]
    wrong = getattr(error, WRONG_VALUE, None)
    if wrong is None or f"'{wrong}'" in message:
        return message
    return message.replace("invalid value for", f"invalid value {quoted(wrong)} for", 1)


def _help_hint(error: _UsageError) -> str:
    context = getattr(error, "ctx", None)
    if context is None:
        return f"Try '{PROGRAM} --help'."
    option = getattr(error, "option_name", "")
    if option and (meant := _meant_option(option, context)):
        return meant
    lines = [line for line in help_page.examples(context.command) if not line.startswith("#")]
    if lines and type(error).__name__ == "MissingParameter":
        return f"For example: {lines[0]}; '{context.command_path} --help' tells more."
    if lines and error.format_message().startswith("Got unexpected extra argument"):
        spaces = "A value with spaces stands in quotes. " if _takes_arguments(context.command) else ""
        return f"{spaces}For example: {lines[0]}; '{context.command_path} --help' tells more."
    return f"Try '{context.command_path} --help'."


def _meant_option(option: str, context: Any) -> str | None:
    """Return what to do about an option that a command does not have: where it stands, or the one option that it can
    only be a slip for; None for another, since an option guessed wrongly does something else."""
    own = _options_of(context.command)
    if option in own:
        return None
    holders = [name for name, each in getattr(context.command, "commands", {}).items() if option in _options_of(each)]
    if holders:
        after = "the command" if context.parent is None else f"'{context.command_path} {holders[0]}'"
        return f"{option} stands after {after}."
    setting = option.replace("--", "--set-", 1)
    meant = setting if setting in own else guessed_words.meant_by(option, own)
    return f"Write {meant}; '{context.command_path} --help' tells more." if meant else None


def _options_of(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")}


def _takes_arguments(command: Any) -> bool:
    return any(each.param_type_name == "argument" for each in command.params)

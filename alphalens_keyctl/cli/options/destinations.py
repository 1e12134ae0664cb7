"""The options that say where a new raw key goes: what `create` and `rotate` share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey

if TYPE_CHECKING:
    from alphalens_keyctl.delivery.command import CommandLine
    from alphalens_keyctl.delivery.destination import Destination
    from alphalens_keyctl.delivery.handover import Handover

ENV_VARIABLE: Final = "ALPHALENS_API_KEY"
PIPE_LIMIT: Final = 60.0  # seconds; issue 4


@dataclass(frozen=True)
class Destinations:
    """Where a new raw key goes, besides stdout or instead of it."""

    keyring: Annotated[bool, typer.Option("--keyring", help="Keep the raw key in the system's keyring.")] = False
    key_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--key-file", metavar="PATH", show_default=False, help="Write the raw key to this file, mode 0600."
        ),
    ] = None
    env_file: Annotated[
        list[Path] | None,
        typer.Option("--env-file", metavar="PATH", show_default=False, help="Set a variable in this file."),
    ] = None
    env_var: Annotated[str, typer.Option("--env-var", metavar="NAME", help="The variable that --env-file sets.")] = (
        ENV_VARIABLE
    )
    pipe_to: Annotated[
        list[str] | None,
        typer.Option(
            "--pipe-to",
            metavar="CMD",
            show_default=False,
            help="Run this with the raw key on its stdin, without a shell.",
        ),
    ] = None
    pipe_timeout: Annotated[
        float,
        typer.Option("--pipe-timeout", metavar="SECONDS", min=0.1, max=3600, help="How long a command may take."),
    ] = PIPE_LIMIT
    no_print: Annotated[bool, typer.Option("--no-print", help="Do not write the raw key to stdout.")] = False

    def handover(self, run: Run) -> "Handover":
        """Every destination but stdout. Raises `KeyctlError` (usage)."""
        from alphalens_keyctl.delivery.handover import Handover

        # Commands first: what a place was handed that cannot give it back must come before what can.
        destinations: list[Destination] = [
            *_commands(run, self.pipe_to or (), self.pipe_timeout),
            *_keyring(self.keyring),
            *_files(self.key_file or (), self.env_file or (), self.env_var),
        ]
        if self.no_print and not destinations:
            raise KeyctlError(
                Code.USAGE,
                "--no-print leaves the raw key nowhere to go",
                "Add --keyring, --key-file, --env-file or --pipe-to.",
            )
        return Handover(destinations)


def command_line(run: Run, line: str, option: str, timeout: float) -> "CommandLine":
    """A command that is handed a raw key. Raises `KeyctlError` (usage)."""
    from alphalens_keyctl.delivery.command import CommandLine

    return CommandLine(line, option=option, limit=timeout, tell=run.note)


def show_once(
    run: Run, raw: RawKey, *, json: bool, document: Callable[[str], Mapping[str, Any]], panel: Callable[[], str]
) -> list[str]:
    """Write the JSON document, or on a terminal the panel, or into a pipe the bare raw key, to stdout.

    `document` is given what stdout is called. Returns that. Raises `KeyctlError` (delivery_failed).
    """
    from alphalens_keyctl.delivery import stdout
    from alphalens_keyctl.output import documents

    if json:
        text = documents.json_document(document(stdout.name()))
    elif stdout.name() == "terminal":
        text = panel()
    else:
        text = raw.reveal() + "\n"
    return stdout.write(text, raw, mask=run.in_github_actions)


def _commands(run: Run, lines: Sequence[str], timeout: float) -> "Iterator[Destination]":
    if lines:
        from alphalens_keyctl.delivery.command import Command

        for line in lines:
            yield Command(command_line(run, line, "--pipe-to", timeout))


def _keyring(wanted: bool) -> "Iterator[Destination]":
    if wanted:
        from alphalens_keyctl.delivery.keyring import Keyring

        yield Keyring()


def _files(key_files: Sequence[Path], env_files: Sequence[Path], variable: str) -> "Iterator[Destination]":
    if not (key_files or env_files):
        return
    from alphalens_keyctl.delivery.files import Alone, KeyFile, Variable

    files = [KeyFile(path, Alone(), option="key-file") for path in key_files]
    files += [KeyFile(path, Variable(variable), option="env-file") for path in env_files]
    if len({file.path.resolve() for file in files}) < len(files):
        raise KeyctlError(Code.USAGE, "two destinations are the same file", "Name each file once.")
    yield from files

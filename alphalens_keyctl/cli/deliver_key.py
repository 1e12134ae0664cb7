"""How `create` and `rotate` deliver a new raw key: to the destinations that the options name, and to stdout."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.delivery import stdout
from alphalens_keyctl.delivery.destination import Destination
from alphalens_keyctl.delivery.handover import Handover
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.output import documents

if TYPE_CHECKING:
    from alphalens_keyctl.delivery.command import CommandLine
    from alphalens_keyctl.delivery.files import KeyFile


def handover(run: Run, given: Destinations) -> Handover:
    """Return the destinations that the options name, stdout apart. Raises `KeyctlError` (usage)."""
    # Commands first: a destination that cannot give a key back is handed it before those that can.
    destinations: list[Destination] = [
        *_commands(run, given),
        *_keyring(given.keyring),
        *files(given),
    ]
    if given.no_print and not destinations:
        raise KeyctlError(
            Code.USAGE,
            "--no-print leaves the raw key nowhere to go",
            "Add --keyring, --key-file, --env-file or --pipe-to.",
        )
    return Handover(destinations)


def command_line(run: Run, line: str, option: str, given: Destinations) -> "CommandLine":
    """Return the command that `option` names, to be run with a raw key as `--pipe-timeout` and `--pipe-newline` say.

    Raises `KeyctlError` (usage).
    """
    from alphalens_keyctl.delivery.command import CommandLine

    return CommandLine(line, option=option, limit=given.pipe_timeout, tell=run.note, newline=given.pipe_newline)


def piped_to(run: Run, given: Destinations) -> "Iterator[CommandLine]":
    """Yield the command of each `--pipe-to`. Raises `KeyctlError` (usage)."""
    for line in given.pipe_to or ():
        yield command_line(run, line, "--pipe-to", given)


def show_once(
    run: Run, raw: RawKey, *, json: bool, document: Callable[[str], Mapping[str, Any]], panel: Callable[[], str]
) -> list[str]:
    """Write a new raw key to stdout: with `json` in `document`, on a terminal in `panel`, into a pipe bare.

    `document` is given the name of stdout in `delivered_to`. Returns the names of the destinations written to.
    Raises `KeyctlError` (delivery_failed).
    """
    if json:
        text = documents.json_document(document(stdout.name()))
    elif stdout.name() == "terminal":
        text = panel()
    else:
        text = raw.reveal() + "\n"
    return stdout.write(text, raw, mask=run.in_github_actions)


def _commands(run: Run, given: Destinations) -> "Iterator[Destination]":
    for line in piped_to(run, given):
        from alphalens_keyctl.delivery.command import Command

        yield Command(line)


def _keyring(wanted: bool) -> "Iterator[Destination]":
    if wanted:
        from alphalens_keyctl.delivery.keyring import Keyring

        yield Keyring()


def files(given: Destinations) -> "Iterator[KeyFile]":
    """Yield the files that the options name. Raises `KeyctlError` (usage)."""
    key_files, env_files, variable = given.key_file or (), given.env_file or (), given.env_var
    if not (key_files or env_files):
        return
    from alphalens_keyctl.delivery.files import Alone, KeyFile, Variable

    found = [KeyFile(path, Alone(), option="key-file") for path in key_files]
    found += [KeyFile(path, Variable(variable), option="env-file") for path in env_files]
    if len({file.path.resolve() for file in found}) < len(found):
        raise KeyctlError(Code.USAGE, "two destinations are the same file", "Name each file once.")
    yield from found

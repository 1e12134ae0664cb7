"""The program's entry: make the process ready, and run the command that the arguments name.

Little is imported on top: what a command needs is imported while no garbage is looked for.
"""

import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.keyformat import resembles_raw_key
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.output import channel
from alphalens_keyctl.settings import PROGRAM

# What the scripts of the shells run when TAB is pressed: no command, so that no command line can mean it.
COMPLETE: Final = "__complete"


def main() -> int:
    """Run the command that the arguments name; returns the exit status."""
    asked_at = utc_now()
    # A command lives for half a second, a good part of it spent on looking for garbage among the imports,
    # and once more at the end. What streams a million rows makes no cycles.
    gc.disable()
    _end_by_signals_as_anywhere()
    _keep_standard_descriptors()
    _write_any_text()
    arguments = sys.argv[1:]
    try:
        _refuse_raw_keys(arguments)
        from alphalens_keyctl.cli import app, failure

        command = app.command()
        if arguments == [COMPLETE]:
            from alphalens_keyctl.cli.complete.answer import answer

            answer(command)
            return ExitStatus.DONE
        start = (asked_at, failure.for_machine(arguments))
        status = command(arguments, prog_name=PROGRAM, standalone_mode=False, obj=start)
        return status if isinstance(status, int) else ExitStatus.DONE
    except channel.ReaderGoneError:
        return ExitStatus.DONE  # `list | head` has what it wanted
    except BaseException as error:  # noqa: BLE001  # nothing may reach the user as a traceback
        from alphalens_keyctl.cli import failure

        return failure.tell(error, arguments)
    finally:
        gc.freeze()


def _end_by_signals_as_anywhere() -> None:
    """As the first process of a container: there the kernel drops a signal that has no handler, and a container that is
    stopped would wait until it is killed."""
    if os.getpid() != 1:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _frame: os._exit(128 + number))


def _keep_standard_descriptors() -> None:
    """With stdout closed, the next file opened would get its number: a raw key meant for stdout would be
    written into the lock file or the database."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _write_any_text() -> None:
    """Whatever the locale: a character that it lacks is spelled out, and ASCII stays ASCII (a JSON document
    or a raw key in UTF-16 would be none)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            plain = "a".encode(stream.encoding) == b"a"
            stream.reconfigure(encoding=None if plain else "utf-8", errors="backslashreplace")


def _refuse_raw_keys(arguments: Sequence[str]) -> None:
    if any(map(resembles_raw_key, arguments)):
        raise KeyctlError(
            Code.RAW_KEY_IN_ARGUMENT,
            "a raw key was given as an argument, where the process list and the shell's history show it",
            "Pass it on standard input, with '-' as KEY. Consider it leaked: rotate it.",
        )

"""Standard streams that are not as they should be."""

import os

from alphalens_keyctl.cli.options import standard_input
from tests.support.commands import Keyctl, Result


def into_closed_pipe(keyctl: Keyctl, *arguments: str, stdin: bytes = b"") -> Result:
    """Run a command whose stdout is a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return keyctl(*arguments, stdin=stdin, stdout=writer)
    finally:
        os.close(writer)


def hurry() -> None:
    """Runs inside the command: input that should come within a minute has half a second."""
    standard_input.LIMIT = 0.5  # type: ignore[misc]  # in a process of the test's own

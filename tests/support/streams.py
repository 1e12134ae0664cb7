"""Standard streams that are not as they should be."""

import os

from tests.support.commands import Keyctl, Result


def into_closed_pipe(keyctl: Keyctl, *arguments: str, stdin: bytes = b"") -> Result:
    """Run a command whose stdout is a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return keyctl(*arguments, stdin=stdin, stdout=writer)
    finally:
        os.close(writer)

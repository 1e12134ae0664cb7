"""TAB without a shell: the words of a line → the lines of the program's answer."""

from typing import Any, NamedTuple

from tests.support.commands import Keyctl


class Offer(NamedTuple):
    """What TAB offers: each text with its description, and whether a file is meant."""

    texts: dict[str, str]
    files: bool


def request(*words: str) -> bytes:
    """The words of a line, without the program's name, as a shell's script sends them."""
    return b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in ("alphalens-keyctl", *words))


def offered(keyctl: Keyctl, *words: str, **options: Any) -> Offer:
    """What TAB offers for the last of the words. The program must say nothing else, and succeed."""
    done = keyctl("__complete", stdin=request(*words), **options)
    assert (done.status, done.stderr) == (0, ""), done
    lines = done.stdout.splitlines()
    return Offer(dict(line.split("\t") for line in lines if "\t" in line), ":files" in lines)

"""Scopes, what a key may do: their grammar, and which scopes cover which.

A scope is words between colons, `prices:read`. `reports:*` covers every scope below `reports:`, and not `reports`
itself. None in place of scopes is a key that is not restricted: it covers every scope but the reserved ones, which
give rights over this program, so that no key that was made before there were scopes ever administers keys.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.text import parse_line, quoted

LONGEST_SCOPE: Final = 64
MOST_SCOPES: Final = 50
RESERVED: Final = ("keyctl:admin", "keyctl:audit", "keyctl:team")

_WORD: Final = r"[a-z0-9._-]+"
_SCOPE: Final = re.compile(rf"(?=.{{1,{LONGEST_SCOPE}}}\Z){_WORD}(:{_WORD})*(:\*)?\Z", re.ASCII)
_RESERVED_WORD: Final = "keyctl"
_GRAMMAR: Final = (
    "A scope is words of a-z 0-9 . _ - with a colon between them, for example prices:read; reports:* covers all that"
    " lies below reports:."
)


def parse(text: str) -> str:
    """Return a scope as it is stored, which is as it was written.

    Raises `KeyctlError`: invalid_input, also for a reserved scope that there is not; raw_key_in_argument.
    """
    scope = parse_line(text, what="scope", longest=LONGEST_SCOPE)
    if _SCOPE.fullmatch(scope) is None:
        raise _refusal(scope, "is not written as a scope is", _right(scope))
    if _is_reserved(scope) and scope not in RESERVED:
        raise _refusal(scope, "is in the reserved space keyctl:", f"There are {', '.join(RESERVED)}.")
    return scope


def parse_all(texts: Iterable[str]) -> tuple[str, ...] | None:
    """Return the scopes in their normal form; None, not restricted, where there is not one text. Raises `KeyctlError`
    as `parse` does, and for more than `MOST_SCOPES`."""
    found = normal(map(parse, texts))
    if len(found) > MOST_SCOPES:
        raise KeyctlError(
            Code.INVALID_INPUT, f"a key has {MOST_SCOPES} scopes at most, not {len(found)}", "A wildcard takes many in."
        )
    return found or None


def normal(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return scopes in the order in which they are stored, each once."""
    return tuple(sorted(set(scopes)))


def are_sound(scopes: Sequence[object]) -> bool:
    """Whether a list of scopes is one that a program of ours may have written."""
    return len(scopes) <= MOST_SCOPES and all(
        isinstance(scope, str) and _SCOPE.fullmatch(scope) is not None for scope in scopes
    )


def covers(held: Sequence[str] | None, wanted: str) -> bool:
    """Whether the scopes `held` (None: not restricted) take in the scope `wanted`, which `parse` has accepted.

    A reserved scope is covered by itself alone, and a wildcard by one that is equal or wider.
    """
    return not _is_reserved(wanted) if held is None else not covering(wanted).isdisjoint(held)


def covers_all(held: Sequence[str] | None, wanted: str | Iterable[str]) -> bool:
    """Whether the scopes `held` take in every scope of `wanted`, one or several. Nobody holds what is no scope, and
    nobody more than `MOST_SCOPES`."""
    if type(wanted) is str and len(wanted) <= LONGEST_SCOPE and (held is None or type(held) is tuple):
        return _covers(held, wanted)  # asked on each request of a service
    try:
        needed = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    except TypeError:
        return False
    return len(needed) <= MOST_SCOPES and all(_is_scope(scope) and covers(held, scope) for scope in needed)


def grants(held: Sequence[str] | None, wanted: Sequence[str] | None) -> bool:
    """Whether somebody with the scopes `held` may make a key with the scopes `wanted`: nobody gives what they lack."""
    return held is None if wanted is None else all(covers(held, scope) for scope in wanted)


@lru_cache(maxsize=4096)
def covering(wanted: str) -> frozenset[str]:
    """Return each scope that takes in `wanted`, itself among them: holding one of them is enough."""
    if _is_reserved(wanted):
        return frozenset((wanted,))
    words = wanted.split(":")
    return frozenset((wanted, *(":".join((*words[:end], "*")) for end in range(1, len(words)))))


@lru_cache(maxsize=4096)
def _covers(held: tuple[str, ...] | None, wanted: str) -> bool:
    return _parses(wanted) and covers(held, wanted)


def _is_scope(wanted: object) -> bool:
    # No longer text is remembered: a client may have a say in it.
    return isinstance(wanted, str) and len(wanted) <= LONGEST_SCOPE and _parses(wanted)


@lru_cache(maxsize=4096)
def _parses(wanted: str) -> bool:
    try:
        return bool(parse(wanted))
    except KeyctlError:
        return False


def _is_reserved(scope: str) -> bool:
    return scope == _RESERVED_WORD or scope.startswith(_RESERVED_WORD + ":")


def _right(scope: str) -> str:
    if scope == "*":
        return "A key without scopes may do everything: leave the option out."
    plain = scope.lower()
    return f"Write {plain}." if _SCOPE.fullmatch(plain) else _GRAMMAR


def _refusal(scope: str, problem: str, hint: str) -> KeyctlError:
    return KeyctlError(Code.INVALID_INPUT, f"the scope {problem}", hint, told=f"the scope {quoted(scope)} {problem}")

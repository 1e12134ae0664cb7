"""Words that people try for a command, and the commands that do what these words say."""

from collections.abc import Iterable, Mapping
from itertools import takewhile
from operator import eq
from typing import Final

# What is typed → what to write instead.
GUESSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("add", "generate", "gen", "issue", "make", "mint", "new"), "create NAME"),
    **dict.fromkeys(("import", "load"), "create --from FILE"),
    **dict.fromkeys(("keys", "ls", "search", "find"), "list"),
    **dict.fromkeys(("dump", "export"), "list --csv"),
    **dict.fromkeys(("cat", "describe", "get", "info", "inspect", "view"), "show KEY"),
    **dict.fromkeys(("del", "delete", "destroy", "drop", "remove", "rm", "expire"), "revoke KEY"),
    **dict.fromkeys(("block", "deactivate", "disable", "pause", "stop"), "suspend KEY"),
    **dict.fromkeys(("activate", "enable", "unblock", "unpause", "unsuspend"), "resume KEY"),
    **dict.fromkeys(("refresh", "regenerate", "reissue", "renew", "replace", "roll"), "rotate KEY"),
    **dict.fromkeys(("change", "edit", "label", "modify", "set", "tag"), "update KEY"),
    **dict.fromkeys(("mv", "rename"), "update KEY --set-name NAME"),
    **dict.fromkeys(("extend", "prolong"), "update KEY --set-expires WHEN"),
    **dict.fromkeys(("test", "try", "validate"), "verify"),
    **dict.fromkeys(("history", "events", "log", "logs"), "audit"),
    **dict.fromkeys(("check", "lint"), "audit check"),
    **dict.fromkeys(("stats", "usage", "uses"), "audit usage"),
    **dict.fromkeys(("init", "migrate", "setup", "upgrade"), "db upgrade"),
    **dict.fromkeys(("run", "server", "start"), "serve"),
    **dict.fromkeys(("man", "docs", "topics"), "help"),
}


def meant_by(word: str, commands: Iterable[str]) -> str | None:
    """Return what to write instead of `word`: a command with its arguments, or the one of `commands` that is spelled
    almost so. None where nothing comes near."""
    known = GUESSED.get(word.lower())
    if known is not None and known.split()[0] in commands:
        return known
    near = [command for command in commands if _differ_little(word.lower(), command)]
    return near[0] if len(near) == 1 else None


def _differ_little(word: str, command: str) -> bool:
    """Whether one becomes the other by one letter more, less or other, or by two that change places."""
    shared = sum(1 for _ in takewhile(bool, map(eq, word, command)))
    left, right = word[shared:], command[shared:]
    return (
        left[1:] == right
        or left == right[1:]
        or left[1:] == right[1:]
        or (left[1::-1], left[2:]) == (right[:2], right[2:])
    )

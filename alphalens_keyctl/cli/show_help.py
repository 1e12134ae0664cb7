"""What `help` does: print the help of a command, or a topic from `alphalens_keyctl/docs/`."""

import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from alphalens_keyctl.cli import guessed_words
from alphalens_keyctl.cli.topics import TOPICS
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.output import channel, markdown
from alphalens_keyctl.output.pages import Paper, Section, drawn_section
from alphalens_keyctl.settings import PROGRAM
from alphalens_keyctl.text import quoted


def show_help(ctx: Any, about: Sequence[str]) -> None:
    """Print the help of the command, or the topic, that the words `about` name; without any, all there are.

    Raises `KeyctlError` (usage) for other words.
    """
    root = ctx.find_root()
    paper = Paper.of(sys.stdout)
    if not about:
        section = Section(f"Topics, for '{PROGRAM} help TOPIC'", list(TOPICS.items()))
        channel.write([root.command.get_help(root), "\n\n", drawn_section(section, paper), "\n"])
        return
    command, context = root.command, root
    for word in about:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        command, context = inner, type(root)(inner, info_name=word, parent=context)
    else:
        channel.write([command.get_help(context), "\n"])
        return
    topic = about[0].lower()
    if len(about) != 1 or topic not in TOPICS:
        raise _unknown(" ".join(about), root.command.commands)
    text = (files("alphalens_keyctl") / "docs" / f"{topic}.md").read_text("utf-8")
    channel.write([markdown.plain(text, paper)])


def _unknown(asked: str, commands: Mapping[str, Any]) -> KeyctlError:
    meant = guessed_words.meant_by(asked, [*commands, *TOPICS])
    said = f"Write '{PROGRAM} help {meant.split()[0]}'. " if meant else ""
    return KeyctlError(
        Code.USAGE,
        f"there is no command and no topic {quoted(asked)}",
        f"{said}Commands: {', '.join(commands)}. Topics: {', '.join(TOPICS)}.",
    )

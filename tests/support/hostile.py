"""What an attacker sends."""

from typing import Final

# Clears the screen, opens a link, is markup, turns the text around.
HOSTILE_TEXT: Final = "\x1b[2J\x1b]8;;http://evil.example\x07[red]x[/red]\u202e"

# Values of the header that is to hold a raw key.
HOSTILE_KEYS: Final = [
    b"", b" ", b"\0", b"alk_", b"\xff\xfe", "alk_ключ".encode(), b"\r\nX: y", b"a" * 10_000_000, b"_" * 70,
    b"alk_" + b"0" * 12 + b"_" + b"0" * 49, b"alk_" + b"0" * 12 + b"_" + b"0" * 49 + b"\0",
]  # fmt: skip

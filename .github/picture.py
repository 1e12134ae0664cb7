"""Makes `.github/picture.svg`: a session of the real program on a terminal, in a folder and a database of its own.

From a clone: `.venv/bin/python .github/picture.py`. Whoever changes what the program prints runs it again.
"""

import fcntl
import os
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH: Final = 100
# What is typed; the lines without `$` prepare, and are not shown.
SESSION: Final = (
    "alphalens-keyctl create search --owner team-b --purpose 'site search' --expires 10d --no-print --key-file s.key",
    "alphalens-keyctl create ci --owner platform --label env=ci --expires 1y --no-print --key-file ci.key",
    "alphalens-keyctl verify --record < ci.key",
    "$ alphalens-keyctl create billing --owner team-a --expires 90d --no-print --key-file billing.key",
    "alphalens-keyctl verify --record < billing.key",
    "$ alphalens-keyctl rotate billing --grace 7d --no-print --key-file billing.key",
    "$ alphalens-keyctl list",
    "$ alphalens-keyctl audit check --rule expiring",
)
_RAW_KEY: Final = re.compile(r"\balk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\b")
# Rich's own picture loads a font from elsewhere; this one takes what the reader has.
_PICTURE: Final = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
    }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def run(line: str, folder: Path) -> str:
    """Run a command of the program on a terminal in `folder`; returns what the terminal was sent."""
    words = shlex.split(line)
    given = subprocess.DEVNULL
    command = [sys.executable, "-m", "alphalens_keyctl", *words[1:]]
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    if "<" in words:
        command = command[: command.index("<")]
        given = os.open(folder / words[-1], os.O_RDONLY)
    environment = {
        "HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color",
        "PYTHONPATH": str(Path(__file__).parents[1]), "ALPHALENS_KEYCTL_ACTOR": "jo",
    }  # fmt: skip
    process = subprocess.Popen(command, stdin=given, stdout=slave, stderr=slave, env=environment, cwd=folder)
    os.close(slave)
    sent = b""
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # EIO: the program has left the terminal
            break
        sent += piece
    process.wait()
    os.close(master)
    return _RAW_KEY.sub("alk_…", sent.decode().replace("\r\n", "\n").replace(str(folder), "/home/jo"))


def main() -> None:
    """Run the session and write the picture beside this file."""
    shown = Text()
    with tempfile.TemporaryDirectory() as folder:
        run("alphalens-keyctl create first --no-print --key-file first.key", Path(folder))
        run("alphalens-keyctl revoke first --yes", Path(folder))
        for line in SESSION:
            typed = line.removeprefix("$ ")
            sent = run(typed, Path(folder))
            if typed != line:
                shown.append("$ ", "bold green").append(typed + "\n", "bold")
                shown.append_text(Text.from_ansi(sent)).append("\n")
    shown.rstrip()
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(shown, soft_wrap=False)
        picture = console.export_svg(title="alphalens-keyctl", theme=MONOKAI, code_format=_PICTURE, unique_id="keyctl")
    (Path(__file__).parent / "picture.svg").write_text(picture)


if __name__ == "__main__":
    main()

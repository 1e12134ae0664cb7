"""The process between this program and a command: it starts the command, and kills it when this program ends.

It reports how the command ended on a descriptor, in one line: `!` and an errno when the command could not be started,
else the exit status, negative for a signal. It loads nothing but what it needs, since a command waits for it.
"""

import os
import select
import signal
import sys
from typing import Final, NoReturn

_NOT_FOUND: Final = 127  # what a shell exits with


def main() -> int:
    """Run the command of the arguments: LIFELINE REPORT INHERITED... -- WORD..."""
    cut = sys.argv.index("--")
    lifeline, report, *inherited = map(int, sys.argv[1:cut])
    words = sys.argv[cut + 1 :]
    # The command gets none of these: its children could keep them open for ever.
    for descriptor in (lifeline, report, *inherited):
        os.set_inheritable(descriptor, False)
    ended, wake_up = os.pipe()
    for descriptor in (ended, wake_up):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    command = os.fork()
    if command == 0:
        _become(words, report)
    # So that the command alone has the ends of its pipes.
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    while True:
        ready, _, _ = select.select([lifeline, ended], [], [])
        done, status = os.waitpid(command, os.WNOHANG)
        if done:
            os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            return 0
        if lifeline in ready:
            os.killpg(0, signal.SIGKILL)  # the command, what it started, and this process
        if ended in ready:
            os.read(ended, 1 << 10)


def _become(words: list[str], report: int) -> NoReturn:
    try:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a command would inherit
            signal.signal(number, signal.SIG_DFL)
        os.execvp(words[0], words)  # noqa: S606  # the admin's own command, and no shell
    except OSError as error:
        os.write(report, f"!{error.errno}\n".encode())
    finally:
        os._exit(_NOT_FOUND)

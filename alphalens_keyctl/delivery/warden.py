"""The process between this program and a command: it starts the command, and kills it when this program ends.

It reports how the command ended on a descriptor, in one line: `!` and an errno when the command could not be started,
else the exit status, negative for a signal. Every command waits for it, so it imports next to nothing and runs as a
script: even `signal` or `typing` would double the time it takes.
"""

import os
import select
import sys

_SIGKILL = 9  # POSIX


def main() -> int:
    """Run the command of the arguments: LIFELINE, REPORT,INHERITED..., signal numbers that the command must not find
    ignored, and the command's words."""
    lifeline = int(sys.argv[1])
    report, *inherited = map(int, sys.argv[2].split(","))
    # The command gets none of these: its children could keep them open for ever.
    for descriptor in (lifeline, report, *inherited):
        os.set_inheritable(descriptor, False)
    default = tuple(map(int, sys.argv[3].split(",")))
    words = sys.argv[4:]
    try:
        command = os.posix_spawnp(words[0], words, os.environ, setsigdef=default)
    except OSError as error:
        os.write(report, f"!{error.errno}\n".encode())
        return 0
    # So that the command alone has the ends of its pipes.
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    ended = _ended(command)
    ready, _, _ = select.select([lifeline, ended], [], [])
    if ended not in ready:
        os.killpg(0, _SIGKILL)  # the command, what it started, and this process
    _, status = os.waitpid(command, 0)
    os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    return 0


def _ended(command: int) -> int:
    """Return a descriptor that becomes readable when the command has ended."""
    if hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(command)
        except OSError:
            pass  # an old kernel, or a sandbox
    import signal

    ended, wake_up = os.pipe()
    os.set_blocking(wake_up, False)
    signal.set_wakeup_fd(wake_up)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # A command that had ended before somebody listened.
    if os.waitid(os.P_PID, command, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        os.write(wake_up, b"\0")
    return ended


if __name__ == "__main__":
    sys.exit(main())

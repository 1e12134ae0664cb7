"""The program as a script calls it: asks the fork server for the command, and ends as the command ends.

An interpreter that loads the program costs half a second of a processor; one that asks costs a fiftieth. Run without
site-packages, as `forked_program.py SOCKET ARGUMENTS`. Signals reach the command where its process group gets them.
"""

import json
import os
import signal
import socket
import sys

CLOSED = "closed"


def main() -> int:
    """Run the command; returns its exit status."""
    streams = [number if _is_open(number) else CLOSED for number in range(3)]
    request = {
        "arguments": sys.argv[2:], "environment": dict(os.environ), "folder": os.getcwd(),
        "streams": ["open" if stream != CLOSED else CLOSED for stream in streams], "before": [], "user": None,
        "to_the_last": False, "group": os.getpgid(0), "takes_terminal": False,
    }  # fmt: skip
    report, end = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(sys.argv[1])
        passed = [stream for stream in streams if isinstance(stream, int)]
        socket.send_fds(server, [json.dumps(request).encode()], [*passed, end])
    os.close(end)
    for number in range(3):  # so that whoever reads the other end sees the command's end, not this one's
        if streams[number] != CLOSED:
            os.close(number)
    with open(report) as said:
        _, status = map(int, said.read().split())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    return status


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

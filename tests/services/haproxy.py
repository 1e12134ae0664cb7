"""A real HAProxy, as Debian has it."""

from collections.abc import Sequence
from pathlib import Path

from tests.services.proxy import Ports, Proxy
from tests.support.readme import adapted, block
from tests.support.tools import require_tool


def _command(folder: Path, ports: Ports) -> Sequence[str]:
    script = folder / "alphalens_keyctl.lua"
    script.write_text(
        adapted(block("haproxy lua", "lua"), {"http://127.0.0.1:8377": f"http://127.0.0.1:{ports.serve}"})
    )
    changes = {
        "lua-load-per-thread /etc/haproxy/alphalens_keyctl.lua": f"lua-load-per-thread {script}",
        "bind :80": f"bind 127.0.0.1:{ports.proxy}",
        "server service 127.0.0.1:8000": f"server service 127.0.0.1:{ports.service}",
    }
    (folder / "haproxy.cfg").write_text(adapted(block("haproxy", "haproxy"), changes))
    return [require_tool("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


HAPROXY = Proxy("haproxy", _command, away=503, hung=(503,))

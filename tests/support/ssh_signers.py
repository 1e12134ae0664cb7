"""People with ssh keys, and files that say whose signature counts."""

import subprocess
from pathlib import Path

from alphalens_keyctl.evidence import ssh_signature
from tests.support.tools import require_tool


class Signer:
    """Somebody with an ssh key, and the line for it in a file of allowed signers."""

    def __init__(self, folder: Path, name: str, passphrase: str = "", kind: str = "ed25519") -> None:
        self.key = folder / name
        words = [
            require_tool("ssh-keygen", "openssh-client"),
            "-q",
            "-t",
            kind,
            "-N",
            passphrase,
            "-C",
            name,
            "-f",
            str(self.key),
        ]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        self.public = self.key.with_suffix(".pub")
        self.line = f"{name}@example.com {' '.join(self.public.read_text().split()[:2])}\n"

    def sign(self, message: str) -> str:
        return ssh_signature.sign(message, self.key, may_ask=False)

    def sign_for(self, namespace: str, message: str) -> str:
        """Sign for another namespace than that of heads."""
        words = ["ssh-keygen", "-Y", "sign", "-f", str(self.key), "-n", namespace]
        return subprocess.run(words, input=message, capture_output=True, text=True, check=True).stdout


def allowed(folder: Path, *lines: str) -> Path:
    """A file of allowed signers."""
    path = folder / "allowed_signers"
    path.write_text("".join(lines))
    return path

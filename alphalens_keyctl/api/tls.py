"""The files of TLS, looked at before anything listens."""

import os
import ssl
import stat
from pathlib import Path
from typing import NamedTuple

from alphalens_keyctl.errors import Code, KeyctlError


class TlsFiles(NamedTuple):
    """A certificate with its chain, and its private key, in PEM."""

    certificate: Path
    key: Path


def check(files: TlsFiles) -> None:
    """Raise `KeyctlError` (configuration_invalid) for files that cannot be read, that do not belong together, and for
    a private key that everybody on this machine may read."""
    for path, what in ((files.certificate, "certificate"), (files.key, "private key")):
        try:
            with path.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
        except OSError as error:
            raise _refusal(
                f"the {what} {path} cannot be read: {error.strerror}", "Check the path and its rights."
            ) from None
        if what == "private key" and mode & stat.S_IROTH:
            raise _refusal(f"everybody on this machine may read the private key {path}", f"Run: chmod 600 {path}")
    try:
        # Without a function for it OpenSSL would ask for a passphrase on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key, password=lambda: "")
    except (ssl.SSLError, OSError, ValueError) as error:
        why = "they do not belong together" if "MISMATCH" in str(error).upper() else "one of them is no PEM, or locked"
        raise _refusal(
            f"{files.certificate} and {files.key} cannot be used: {why}",
            "--tls-cert takes the certificate with its chain, --tls-key its private key without a passphrase.",
        ) from None


def _refusal(problem: str, hint: str) -> KeyctlError:
    return KeyctlError(Code.CONFIGURATION, problem, hint)

"""What the commands about heads share: to read a saved head, to ask who signed it, to make one that is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.evidence import checkpoint, saved, ssh_signature
from alphalens_keyctl.evidence.saved import SavedHead
from alphalens_keyctl.logs.audit import Head
from alphalens_keyctl.logs.proof import Proof
from alphalens_keyctl.output import evidence

_Document = TypeVar("_Document")


def read_head(source: str) -> SavedHead:
    """Return the head in the file `source` (`-`: stdin). Raises `KeyctlError`."""
    return _read(source, "saved head", saved.LARGEST_HEAD, saved.parse_head)


def read_proof(source: str) -> Proof:
    """Return the proof in the file `source` (`-`: stdin). Raises `KeyctlError`."""
    return _read(source, "proof", saved.LARGEST_PROOF, saved.parse_proof)


def signer_of(head: SavedHead | None, signers: str | None, signer: str | None) -> str | None:
    """Return who signed the head, or None where nobody asks (`signers` is None) or there is no head.

    `signers` and `signer` are as `--signers` and `--signer` give them. Raises `KeyctlError`: unproven for a head that
    has no signature that counts.
    """
    if signers is None:
        if signer is not None:
            raise KeyctlError(Code.USAGE, "--signer needs --signers", "Name the file that has the keys of the signers.")
        return None
    if head is None:
        return None
    signature = None if head.signed is None else head.signature
    return ssh_signature.signer(head.signed or "", signature, Path(signers), signer)


def kept(run: Run, head: Head, *, sign: str | None, origin: str | None) -> dict[str, Any]:
    """Return the document of a head that has a root, signed with the key in the file `sign`. Raises `KeyctlError`."""
    text = checkpoint.text(checkpoint.of(head, origin))
    may_ask = runs.can_ask() and not run.machine
    signature = None if sign is None else ssh_signature.sign(text, Path(sign), may_ask=may_ask)
    return evidence.kept_head_object(head, text, signature)


def _read(source: str, what: str, most: int, parse: Callable[[bytes], _Document]) -> _Document:
    try:
        content = standard_input.read_all(source, most=most)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not one"
        raise KeyctlError(Code.INVALID_INPUT, f"the {what} cannot be read: {why}") from None
    return parse(content)

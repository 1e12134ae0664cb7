"""The documents that somebody kept → values: a head, as `audit head` printed it, and the proof of an event."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.evidence import checkpoint
from alphalens_keyctl.logs.audit import GENESIS, Head
from alphalens_keyctl.logs.proof import Proof
from alphalens_keyctl.models import Event
from alphalens_keyctl.moments import rfc3339_exact

LARGEST_HEAD: Final = 1 << 16  # bytes; a signed head has about a thousand
LARGEST_PROOF: Final = 1 << 20  # bytes; the detail of an event is most of it
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_PROOF: Final = {"event", "previous_hash", "tree_size", "path"}
_LONGEST_PATH: Final = 64


class SavedHead(NamedTuple):
    """A head that was kept. `signed` is the text that `signature` is a signature of: the head's checkpoint. A head that
    was kept as a checkpoint alone has no hash of its last event: b''."""

    head: Head
    signed: str | None
    signature: str | None


def parse_head(content: bytes) -> SavedHead:
    """Return the head in a document of `audit head --json`, or in a checkpoint. Raises `KeyctlError` (invalid_input)
    for anything else, also for a document that contradicts itself."""
    try:
        text = content.decode("utf-8")
        return _head(json.loads(text)) if text.lstrip().startswith("{") else _of_checkpoint(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeyctlError(
            Code.INVALID_INPUT, "the saved head is not one", "Give what 'audit head --json' printed."
        ) from None


def parse_proof(content: bytes) -> Proof:
    """Return the proof in a document of `audit prove`. Raises `KeyctlError` (invalid_input) for anything else."""
    try:
        return _proof(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeyctlError(
            Code.INVALID_INPUT, "the proof is not one", "Give what 'audit prove' printed, as it was."
        ) from None


def _head(saved: Mapping[str, Any]) -> SavedHead:
    seq, digest = _number(saved["seq"]), bytes.fromhex(saved["hash"])
    at = None if saved.get("at") is None else datetime.fromisoformat(saved["at"])
    if len(digest) != 32 or (seq == 0 and digest != GENESIS):
        raise ValueError
    root = None if saved.get("root_hash") is None else _hash(saved["root_hash"])
    if saved.get("tree_size", seq) != seq:
        raise ValueError
    signed, signature = saved.get("checkpoint"), saved.get("signature")
    if signed is not None and checkpoint.parse(signed)[1:] != (seq, root):
        raise ValueError
    if signature is not None and not (isinstance(signature, str) and signature.isascii()):
        raise ValueError
    return SavedHead(Head(seq, digest, at, root), signed, signature)


def _of_checkpoint(text: str) -> SavedHead:
    found = checkpoint.parse(text)
    return SavedHead(Head(found.size, b"", None, found.root), checkpoint.text(found), None)


def _proof(saved: Mapping[str, Any]) -> Proof:
    said = saved["event"]
    # Nothing beside it: what nobody checks must not look as if it were proven.
    if set(saved) != _PROOF or set(said) != set(Event._fields):
        raise ValueError
    at = datetime.fromisoformat(said["at"])
    path = saved["path"]
    if rfc3339_exact(at) != said["at"] or not isinstance(said["detail"], dict):
        raise ValueError
    if not isinstance(path, list) or len(path) > _LONGEST_PATH:
        raise ValueError
    event = Event(
        _number(said["seq"]),
        at,
        _text(said["actor"]),
        _text(said["action"]),
        None if said["key_id"] is None else _text(said["key_id"]),
        None if said["key_name"] is None else _text(said["key_name"]),
        said["detail"],
        _hash(said["hash"]),
    )
    return Proof(event, _hash(saved["previous_hash"]), _number(saved["tree_size"]), tuple(map(_hash, path)))


def _number(given: object) -> int:
    if type(given) is not int or given < 0:
        raise ValueError
    return given


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError
    return given


def _hash(given: object) -> bytes:
    if not isinstance(given, str) or _HASH.fullmatch(given) is None:
        raise ValueError
    return bytes.fromhex(given)

"""What `audit verify` does: check the audit log, also against a saved head, and exit 0 or 5."""

import json as jsonlib
from datetime import datetime
from typing import Final

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.logs.audit import GENESIS, Head
from alphalens_keyctl.output import documents, sentences

_LARGEST_HEAD: Final = 4096  # bytes; a saved head has about 150


def verify_log(run: Run, *, head: str | None, json: bool) -> None:
    """Say whether the audit log is sound, and whether it extends the head saved in the file `head` (`-`: stdin).

    Exits 0 or 5. Raises `KeyctlError`; invalid_input for a file that holds no head.
    """
    saved = None if head is None else _read_head(head)
    with run.manager() as manager:
        verdict = manager.verify_log(saved)
    if json:
        said = documents.json_document(documents.verdict_object(verdict))
    else:
        said = sentences.log_verdict(verdict, extends=saved is not None) + "\n"
    runs.answer(said, status=ExitStatus.DONE if verdict.broken is None else ExitStatus.FOUND)


def _read_head(source: str) -> Head:
    try:
        content = standard_input.read_all(source, most=_LARGEST_HEAD)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not one"
        raise KeyctlError(Code.INVALID_INPUT, f"the saved head cannot be read: {why}") from None
    try:
        saved = jsonlib.loads(content)
        seq, digest = saved["seq"], bytes.fromhex(saved["hash"])
        at = None if saved.get("at") is None else datetime.fromisoformat(saved["at"])
        if type(seq) is not int or seq < 0 or len(digest) != 32 or (seq == 0 and digest != GENESIS):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeyctlError(
            Code.INVALID_INPUT, "the saved head is not one", "Give what 'audit head --json' printed."
        ) from None
    return Head(seq, digest, at)

"""An error → the one JSON document that stderr gets under `--json` (promise 10). Loads nothing but the standard
library: a wrong option is told as fast as `--help`, and a broken installation can still be told."""

import json

from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import redact


def error_document(error: KeyctlError) -> str:
    """`{"error": {"code", "message", "hint"}}` as one line of ASCII without its newline, free of raw keys."""
    told = {"code": error.code.value, "message": redact(error.message), "hint": redact(error.hint)}
    return json.dumps({"error": told})

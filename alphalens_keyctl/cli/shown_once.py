"""How a new raw key leaves by stdout: the one place that `create` and `rotate` pass through."""

from collections.abc import Callable, Mapping
from typing import Any

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.keyformat import RawKey


def show_once(
    run: Run, raw: RawKey, *, json: bool, document: Callable[[], Mapping[str, Any]], panel: Callable[[], str]
) -> list[str]:
    """Write the JSON document, or on a terminal the panel, or into a pipe the bare raw key.

    Returns where it went. Raises `KeyctlError` (delivery_failed).
    """
    from alphalens_keyctl import delivery
    from alphalens_keyctl.output import documents

    if json:
        text = documents.json_document(document())
    elif delivery.stdout_name() == "terminal":
        text = panel()
    else:
        text = raw.reveal() + "\n"
    return delivery.to_stdout(text, raw, mask=run.in_github_actions)

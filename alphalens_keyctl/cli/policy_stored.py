"""What `policy set` and `policy show` do: change the stored policy, and say what it is."""

from collections.abc import Sequence
from typing import Any, Final

from alphalens_keyctl import text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import stored_policy
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.moments import parse_span
from alphalens_keyctl.output import documents, sentences
from alphalens_keyctl.output.words import counted

# What --unset takes, and what then stands in the policy.
UNSET: Final[dict[str, dict[str, Any]]] = {
    "max-lifetime": {"max_lifetime": None},
    "require": {"require": ()},
    "name-pattern": {"name_pattern": None},
}


def set_policy(
    run: Run,
    *,
    max_lifetime: str | None,
    require: Sequence[str] | None,
    name_pattern: str | None,
    unset: Sequence[str] | None,
    reason: str | None,
    json: bool,
) -> None:
    """Change what was named of the stored policy, and say what it is now. Raises `KeyctlError`."""
    changes: dict[str, Any] = {}
    if max_lifetime is not None:
        changes["max_lifetime"] = parse_span(max_lifetime, what="max lifetime")
    if require:
        changes["require"] = stored_policy.parse_required(require)
    if name_pattern is not None:
        changes["name_pattern"] = text.parse_line(name_pattern, what="name pattern", longest=text.LONGEST_NAME)
    for what in unset or ():
        if what not in UNSET:
            raise KeyctlError(Code.USAGE, f"there is no '{what}' to unset", f"There are: {', '.join(UNSET)}.")
        if any(changes.get(name, nothing) != nothing for name, nothing in UNSET[what].items()):
            raise KeyctlError(
                Code.USAGE, f"--{what} and --unset {what} contradict each other", "Leave one of them out."
            )
        changes |= UNSET[what]
    if not changes:
        raise KeyctlError(
            Code.USAGE,
            "policy set needs to know what to set",
            "For example --max-lifetime 365d --require owner,purpose --name-pattern 'team-*', or --unset require.",
        )
    why = None if reason is None else text.parse_line(reason, what="reason", longest=text.LONGEST_REASON)
    with run.manager(create=run.settings.is_default_database) as manager:
        _tell(manager.set_policy(changes, reason=why), json=json)
        outside = manager.outside_policy()
    if outside:
        stand = "stands" if outside == 1 else "stand"
        run.note(f"{counted(outside, 'key')} {stand} outside it: 'alphalens-keyctl audit check' says which.")


def show(run: Run, *, json: bool) -> None:
    """Say what the stored policy is. Raises `KeyctlError`."""
    with run.manager() as manager:
        found = manager.policy()
    _tell(found, json=json)


def _tell(found: StoredPolicy, *, json: bool) -> None:
    if json:
        runs.report(documents.json_document(documents.policy_object(found)))
    else:
        runs.report_sentences(sentences.stored_policy(found))

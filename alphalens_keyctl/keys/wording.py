"""Filters, in words for people."""

from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.moments import exactly


def selected(wanted: Selection) -> str:
    """Say what filters select, to follow the word "keys"."""
    said = []
    if wanted.statuses:
        said.append(f"that are {' or '.join(wanted.statuses)}")
    elif not wanted.final:
        said.append("that are neither revoked nor retired")
    if wanted.name_glob is not None:
        said.append(f"called like '{wanted.name_glob}'")
    said += [f"that contain '{part}'" for part in wanted.containing]
    if wanted.owner is not None:
        said.append(f"owned by '{wanted.owner}'")
    said += ["owned by nobody"] if wanted.unowned else []
    said += [f"labelled {name}={value}" for name, value in wanted.labels.items()]
    said += [f"without label {name}" for name in wanted.without]
    said += [f"that may do {scope}" for scope in wanted.scopes]
    said += ["never used"] if wanted.never_used else []
    said += ["expired"] if wanted.expired else []
    said += ["without an expiry"] if wanted.never_expires else []
    for length, words in (
        (wanted.unused_for, "not used for {}"),
        (wanted.expires_within, "expiring within {}"),
        (wanted.older_than, "created more than {} ago"),
        (wanted.suspended_for, "suspended for {}"),
    ):
        said += [words.format(exactly(length))] if length is not None else []
    return ", ".join(said)

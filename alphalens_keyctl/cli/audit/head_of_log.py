"""What `audit head` does: print the head of the audit log."""

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.output import channel, documents


def print_head(run: Run, *, json: bool) -> None:
    """Print the head: the number, hash and time of the last event. Its JSON is what `audit verify --head` takes."""
    with run.manager() as manager:
        last = documents.head_object(manager.head())
    if json:
        channel.write([documents.json_document(last)])
    else:
        channel.write(f"{name:<5} {value if value is not None else '-'}\n" for name, value in last.items())

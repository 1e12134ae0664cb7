"""What `audit head` does: print the last link of the audit log."""

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.logs import audit
from alphalens_keyctl.output import channel, documents


def print_head(run: Run, *, json: bool) -> None:
    """Print the head: what `audit verify --head` takes when printed as JSON."""
    with run.database() as database, database.reading() as connection:
        last = documents.head_object(audit.head(connection))
    if json:
        channel.write([documents.json_document(last)])
    else:
        channel.write(f"{name:<5} {value if value is not None else '-'}\n" for name, value in last.items())

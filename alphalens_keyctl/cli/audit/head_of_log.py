"""What `audit head` does: print the head of the audit log."""

from alphalens_keyctl.cli.audit import heads
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.evidence.checkpoint import parse_origin
from alphalens_keyctl.output import channel, documents


def print_head(run: Run, *, sign: str | None, origin: str | None, json: bool, checkpoint: bool) -> None:
    """Print the head: the last event, and the root of the tree over all events, as one JSON document where it is signed
    or `json` asks for it, or as a checkpoint.

    `sign` and `origin` are as `heads.kept` takes them. The JSON is what `audit verify --head` takes.
    """
    name = None if origin is None else parse_origin(origin)
    with run.manager() as manager:
        head = manager.rooted_head()
    document = heads.kept(run, head, sign=sign, origin=name)
    if checkpoint:
        channel.write([document["checkpoint"]])
    elif json or sign is not None:
        channel.write([documents.json_document(document)])
    else:
        said = documents.head_object(head) | {"root": document["root_hash"]}
        channel.write(f"{name:<5} {value if value is not None else '-'}\n" for name, value in said.items())

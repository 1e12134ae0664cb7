"""What `audit witness` does: check the log against the head kept before, and keep today's in its place."""

from pathlib import Path
from typing import NamedTuple

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.audit import heads
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.delivery.command import CommandLine
from alphalens_keyctl.errors import ExitStatus
from alphalens_keyctl.evidence.checkpoint import parse_origin
from alphalens_keyctl.evidence.head_file import HeadFile
from alphalens_keyctl.output import documents, evidence


class Elsewhere(NamedTuple):
    """Where a head is kept: a file that remembers it, a command that takes it away."""

    file: HeadFile | None
    command: CommandLine | None

    @classmethod
    def of(cls, run: Run, to: str | None, pipe_to: str | None, limit: float) -> "Elsewhere":
        """Return what `--to` and `--pipe-to` name; the command may take `limit` seconds. Raises `KeyctlError`."""
        command = None
        if pipe_to is not None:
            command = CommandLine(pipe_to, option="--pipe-to", limit=limit, tell=run.note)
            command.look_up()
        return cls(None if to is None else HeadFile(Path(to)), command)

    def keep(self, document: str) -> list[str]:
        """Keep the head in both; return their names. The file comes last: a head that the command did not take is not
        forgotten. Raises `KeyctlError`."""
        names = []
        if self.command is not None:
            self.command.feed(document.encode("ascii"))
            names.append(self.command.name)
        if self.file is not None:
            self.file.replace(document)
            names.append(self.file.name.removeprefix("--"))
        return names


def keep_head(
    run: Run,
    elsewhere: Elsewhere,
    *,
    sign: str | None,
    origin: str | None,
    signers: str | None,
    signer: str | None,
    json: bool,
) -> None:
    """Keep the head, where the log is sound and extends the head kept before; else keep nothing and exit 5.

    `sign` and `origin` are as `heads.kept` takes them, `signers` and `signer` as `heads.signer_of` does. Raises
    `KeyctlError`.
    """
    name = None if origin is None else parse_origin(origin)
    before = None if elsewhere.file is None else elsewhere.file.last()
    signed_by = heads.signer_of(before, signers, signer)
    last = None if before is None else before.head
    with run.manager() as manager:
        verdict = manager.verify_log(last)
        # The head that was verified: what was written since is for the next time.
        head = manager.rooted_head(verdict.head) if verdict.broken is None else None
    document, names = None, []
    if head is not None:
        document = heads.kept(run, head, sign=sign, origin=name)
        names = elsewhere.keep(documents.json_document(document))
    if json:
        said = documents.json_document(evidence.witnessed_object(verdict, last, signed_by, document, names))
    else:
        said = runs.told(*evidence.witnessed(verdict, last, signed_by, names))
    runs.answer(said, status=ExitStatus.DONE if verdict.broken is None else ExitStatus.FOUND)

"""What `db grant` does: give a database role what its part needs, or take it away, and say which statements did it."""

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import roles
from alphalens_keyctl.database.roles import Part
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.output import channel, documents
from alphalens_keyctl.output.inert import for_terminal


def grant(run: Run, *, verifier: str | None, auditor: str | None, revoke: bool, json: bool) -> None:
    """Set the rights of one role, in one transaction. Raises `KeyctlError`."""
    part, role = _one(verifier, auditor)
    run.require_database("db grant")
    with run.database() as database:
        if database.one_writer:
            raise KeyctlError(
                Code.USAGE, "a SQLite file knows no roles", "Who may read and write the file is what decides there."
            )
        with database.writing() as tx:
            statements = roles.revoke(tx, role) if revoke else roles.grant(tx, part, role)
    if json:
        document = {"role": role, "part": part.value, "revoked": revoke, "statements": statements}
        channel.write([documents.json_document(document)])
    else:
        channel.write([f"{for_terminal(statement)};\n" for statement in statements])


def _one(verifier: str | None, auditor: str | None) -> tuple[Part, str]:
    given = [(part, role) for part, role in ((Part.VERIFIER, verifier), (Part.AUDITOR, auditor)) if role is not None]
    if len(given) != 1 or not given[0][1]:
        raise KeyctlError(Code.USAGE, "db grant takes one role", "Say --verifier ROLE or --auditor ROLE.")
    return given[0]

"""`audit`: the log of every change; `audit verify` and `audit head` prove that nobody touched it.

`audit usage` and `audit prune`, about the log of every use, have files of their own.
"""

import errno
import json as jsonlib
import os
import stat
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl import text
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli import standard_input
from alphalens_keyctl.cli.arguments import CsvOption, JsonLinesOption, JsonOption, one_of, parse_key
from alphalens_keyctl.cli.check import check
from alphalens_keyctl.cli.prune import prune
from alphalens_keyctl.cli.rows import KeyFilter, limit_option, parse_period, since_option, until_option
from alphalens_keyctl.cli.usage import usage
from alphalens_keyctl.errors import Code, KeyctlError

if TYPE_CHECKING:
    from alphalens_keyctl.audit import Head

FOUND = 5
TERMINAL_LIMIT = 100
_LARGEST_HEAD = 4096  # bytes; a saved head has about 150

app = typer.Typer(
    help="Read the audit log and the usage log, and prove that the audit log is whole.", invoke_without_command=True
)


@app.callback()
def audit(
    ctx: typer.Context,
    key: KeyFilter = None,
    actor: Annotated[
        str | None, typer.Option("--actor", metavar="TEXT", show_default=False, help="Only what this actor did.")
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", metavar="ACTION", show_default=False, help="For example key.revoke.")
    ] = None,
    since: Annotated[str | None, since_option("From then on: 7d, a date, an instant.")] = None,
    until: Annotated[str | None, until_option("Before then: 7d, a date, an instant.")] = None,
    limit: Annotated[
        int | None, limit_option(f"The latest so many; {TERMINAL_LIMIT} for people, all for machines.")
    ] = None,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    csv: CsvOption = False,
) -> None:
    """Show who changed which key when, oldest first."""
    if ctx.invoked_subcommand is not None:
        _refuse_options_before(ctx, ctx.invoked_subcommand)
        return
    run = runs.of(ctx)
    from alphalens_keyctl import audit as log
    from alphalens_keyctl import lookup
    from alphalens_keyctl.models import Action
    from alphalens_keyctl.output import channel, documents

    machine, now = runs.one_format(json=json, jsonl=jsonl, csv=csv), run.act.at
    start, end = parse_period(since, until, now=now)
    wanted = log.LogFilter(
        actor=None if actor is None else text.parse_line(actor, what="actor", longest=text.LONGEST_ACTOR),
        action=None if action is None else one_of(Action, action, "action"),
        since=start,
        until=end,
    )
    reference = None if key is None else parse_key(key)
    with run.database() as database, database.reading(tolerant=True) as connection:
        if reference is not None:
            wanted = wanted._replace(key_ids=lookup.meant_by(connection, reference, now=now))
        if machine is not None:
            events = log.read(connection, wanted, limit=limit)
            channel.write(documents.events_as(machine, events), utf8=True)
            return
        shown = list(log.read(connection, wanted, limit=TERMINAL_LIMIT if limit is None else limit))
        total = log.count(connection, wanted)
    from alphalens_keyctl.output import tables

    channel.write([tables.event_list(shown, total, now=now, screen=run.screen())])


@app.command()
def verify(
    ctx: typer.Context,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="FILE",
            show_default=False,
            help="Also prove that the log extends this head, as 'audit head --json' printed it; - reads stdin.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Walk the whole log: exit 0 when it is sound, 5 with the first break and its kind when not."""
    run = runs.of(ctx)
    from alphalens_keyctl import audit as log
    from alphalens_keyctl.output import documents

    saved = None if head is None else _read_head(head)
    with run.database() as database, database.reading(tolerant=True) as connection:
        verdict = log.verify(connection, saved)
    if json:
        said = documents.json_document(documents.verdict_object(verdict))
    else:
        from alphalens_keyctl.output.words import log_verdict

        said = log_verdict(verdict, extends=saved is not None) + "\n"
    runs.answer(said, status=0 if verdict.broken is None else FOUND)


@app.command()
def head(ctx: typer.Context, json: JsonOption = False) -> None:
    """Print the log's last place, hash and time. Keep it elsewhere: 'audit verify --head' needs it."""
    run = runs.of(ctx)
    from alphalens_keyctl import audit as log
    from alphalens_keyctl.output import channel, documents

    with run.database() as database, database.reading() as connection:
        last = documents.head_object(log.head(connection))
    if json:
        channel.write([documents.json_document(last)])
    else:
        channel.write(f"{name:<5} {value if value is not None else '-'}\n" for name, value in last.items())


app.command(name="usage", short_help="Show which keys were used, when and from where.")(usage)
app.command(name="check", short_help="Check every key against the policy.")(check)
app.command(name="prune", short_help="Remove what is old from the usage log.")(prune)


def _refuse_options_before(ctx: typer.Context, subcommand: str) -> None:
    """An option that goes unheard is worse than one refused: `audit --json verify` would print no JSON."""
    given = [name for name, value in ctx.params.items() if value not in (None, False)]
    if given:
        raise KeyctlError(
            Code.USAGE,
            f"--{given[0]} stands before '{subcommand}', which does not hear it",
            f"Write it after '{subcommand}', if it has that option.",
        )


def _read_head(source: str) -> "Head":
    from alphalens_keyctl.audit import GENESIS, Head

    if source == "-":
        content = standard_input.read(standard_input.standard_input(), most=_LARGEST_HEAD)
    else:
        try:
            # Not blocking, so that a FIFO without a writer is empty rather than a wait for ever.
            descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "its name is not one"
            raise KeyctlError(Code.INVALID_INPUT, f"the saved head cannot be read: {why}") from None
        try:
            content = standard_input.read(descriptor, most=_LARGEST_HEAD)
        finally:
            os.close(descriptor)
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

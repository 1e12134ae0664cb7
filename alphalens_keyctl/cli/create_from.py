"""What `create --from FILE` does: create a key for each line of a file, all or none."""

from collections.abc import Callable, Sequence

from alphalens_keyctl.cli import deliver_key
from alphalens_keyctl.cli.options import standard_input
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.delivery import stdout
from alphalens_keyctl.delivery.destination import about
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import bulk_file, bulk_issuance
from alphalens_keyctl.keys.issuance import Created
from alphalens_keyctl.models import Key
from alphalens_keyctl.output import documents
from alphalens_keyctl.output.words import counted


def create_from(run: Run, source: str, given: Destinations, *, override: str | None, dry_run: bool) -> None:
    """Create a key for each line of the file `source`, or of stdin for `-`.

    The raw keys go to stdout as JSON Lines, or each to a run of a command.
    `override` says why the keys may break the stored policy. With `dry_run`, check the file, the policy and the names,
    and create nothing. Raises `KeyctlError`.
    """
    if given.keyring or given.key_file or given.env_file or len(given.pipe_to or ()) > 1:
        raise KeyctlError(Code.USAGE, "--from hands the keys to one --pipe-to, or to stdout", "Let one command do all.")
    deliver_key.handover(run, given)  # refuses contradicting options before the file is read
    lines = bulk_file.parse(_read(source), now=run.act.at, override=override)
    handout = _handout(run, given) if given.pipe_to else bulk_issuance.Handout(show=_show(run))
    if dry_run:
        if run.has_database():  # else there is no key and no policy that the file could run into
            with run.manager() as manager:
                manager.try_create_each(lines)
    elif lines:
        with run.manager(create=True) as manager:
            manager.create_each(lines, handout, progress=lambda total: run.progress("Create keys", total))
    run.note(f"{'Would create' if dry_run else 'Created'} {counted(len(lines), 'key')}.")


def _read(source: str) -> bytes:
    try:
        content = standard_input.read_all(source, most=bulk_file.LARGEST)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not one"
        raise KeyctlError(Code.INPUT_FAILED, f"{source} cannot be read: {why}", "Check the path.") from error
    if len(content) > bulk_file.LARGEST:
        raise KeyctlError(Code.INVALID_INPUT, f"{source} is larger than 64 MiB", "Split it.")
    return content


def _handout(run: Run, given: Destinations) -> bulk_issuance.Handout:
    (command,) = deliver_key.piped_to(run, given)
    command.look_up()

    def pipe(key: Key, raw: RawKey) -> None:
        command.run(raw, about(key))

    return bulk_issuance.Handout(pipe=pipe, destinations=(command.name,), limit=command.limit)


def _show(run: Run) -> Callable[[Sequence[Created]], Sequence[str]]:
    def show(created: Sequence[Created]) -> list[str]:
        shown = stdout.name()
        lines = [documents.json_document(documents.created_object(each, shown=shown)) for each in created]
        return stdout.write_all(lines, [each.raw for each in created if each.raw], mask=run.in_github_actions)

    return show

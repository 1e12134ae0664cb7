"""The file in which a witness keeps the last good head: replaced whole, and by a later head alone."""

from pathlib import Path

from alphalens_keyctl.delivery.destination import spelled
from alphalens_keyctl.delivery.folder import Spot
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.evidence import saved
from alphalens_keyctl.evidence.saved import SavedHead


class HeadFile:
    """A file that holds a head, or will. Raises `KeyctlError` (delivery_failed) for a file that another user could
    change, and wherever it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.name = f"--to {spelled(str(self.path))}"
        self._spot = Spot(self.path, self.name)
        self._before = self._spot.read()

    def last(self) -> SavedHead | None:
        """Return the head that the file held when it was opened; None where there was no file. Raises `KeyctlError`
        (invalid_input) for a file that holds anything else."""
        return None if self._before is None else saved.parse_head(self._before.content)

    def replace(self, content: str) -> None:
        """Replace the file in one step. Raises `KeyctlError` (lost_race) where somebody else has written to it since
        it was opened."""
        self._spot.stage(content.encode("ascii"), self._before, exactly=True)
        if self._spot.read() != self._before:
            self._spot.clear()
            raise KeyctlError(
                Code.LOST_RACE, f"{self.name}: somebody else wrote to it meanwhile", "Let one witness write to a file."
            )
        self._spot.move_in()

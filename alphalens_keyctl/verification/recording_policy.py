"""What becomes of a use that cannot be recorded. Loads nothing: the command's options stand on it."""

from enum import StrEnum


class RecordingPolicy(StrEnum):
    """Whether a request is allowed whose use cannot be recorded, because too many uses wait already."""

    REQUIRED = "required"
    """The request is refused: no use is lost."""
    BEST_EFFORT = "best-effort"
    """The request is allowed, and its use is counted as dropped."""

"""The one error that domain code raises, and the closed list of its codes."""

from enum import StrEnum


class Code(StrEnum):
    """What went wrong, in a word a script can compare, with the exit status that goes with it.

    The words are part of the JSON contract: one is added, never renamed. Exit statuses are those of
    the design, section 5: 1 failed, 2 usage or bad input, 3 no such key, 6 conflict, 7 the
    surroundings failed, 130 interrupted.
    """

    exit_status: int

    def __new__(cls, word: str, exit_status: int) -> "Code":
        code = str.__new__(cls, word)
        code._value_ = word
        code.exit_status = exit_status
        return code

    INTERNAL = ("internal_error", 1)
    DECLINED = ("declined", 1)
    SOME_FAILED = ("some_failed", 1)
    USAGE = ("usage", 2)
    INVALID_INPUT = ("invalid_input", 2)
    RAW_KEY_IN_ARGUMENT = ("raw_key_in_argument", 2)
    AMBIGUOUS_KEY = ("ambiguous_key", 2)
    KEY_NOT_FOUND = ("key_not_found", 3)
    NAME_TAKEN = ("name_taken", 6)
    LOST_RACE = ("lost_race", 6)
    WRONG_STATE = ("wrong_state", 6)
    CONFLICT = ("conflict", 6)
    TOO_MANY = ("too_many_keys", 6)
    IN_USE = ("key_in_use", 6)
    CONFIGURATION = ("configuration_invalid", 7)
    DATABASE_UNREACHABLE = ("database_unreachable", 7)
    DATABASE_BUSY = ("database_busy", 7)
    DATABASE_UNUSABLE = ("database_unusable", 7)
    DATABASE_MISSING = ("database_missing", 7)
    SCHEMA_MISSING = ("schema_missing", 7)
    SCHEMA_OUTDATED = ("schema_outdated", 7)
    SCHEMA_NEWER = ("schema_newer", 7)
    DELIVERY_FAILED = ("delivery_failed", 7)
    OUTPUT_FAILED = ("output_failed", 7)
    INPUT_FAILED = ("input_failed", 7)
    INTERRUPTED = ("interrupted", 130)


class KeyctlError(Exception):
    """Raised for everything a user can be told about.

    `message` says what is wrong, `hint` what to do about it (may be empty). Neither ever holds a raw
    key or a password: whoever builds one from foreign text redacts it first.
    """

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

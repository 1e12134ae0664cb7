"""The one error that domain code raises, the closed list of its codes, and the exit statuses of every command."""

from enum import IntEnum, StrEnum


class ExitStatus(IntEnum):
    """What a command leaves behind for the shell. Every exit of the program is one of these; `meaning` is the
    word for it in `--help`."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> "ExitStatus":
        status = int.__new__(cls, number)
        status._value_ = number
        status.meaning = meaning
        return status

    DONE = (0, "done")
    FAILED = (1, "failed")
    USAGE = (2, "bad usage or input")
    NOT_FOUND = (3, "no such key")
    REFUSED = (4, "verification refused")
    FOUND = (5, "a check found something")
    CONFLICT = (6, "conflict")
    SURROUNDINGS = (7, "the surroundings failed")
    FORBIDDEN = (8, "not within your rights")
    INTERRUPTED = (130, "interrupted")


class Code(StrEnum):
    """What went wrong, in a word that a script can compare, and the exit status that goes with the word.

    The words are part of the JSON contract: one is added, never renamed.
    """

    exit_status: ExitStatus

    def __new__(cls, word: str, exit_status: ExitStatus) -> "Code":
        code = str.__new__(cls, word)
        code._value_ = word
        code.exit_status = exit_status
        return code

    INTERNAL = ("internal_error", ExitStatus.FAILED)
    DECLINED = ("declined", ExitStatus.FAILED)
    SOME_FAILED = ("some_failed", ExitStatus.FAILED)
    USAGE = ("usage", ExitStatus.USAGE)
    INVALID_INPUT = ("invalid_input", ExitStatus.USAGE)
    RAW_KEY_IN_ARGUMENT = ("raw_key_in_argument", ExitStatus.USAGE)
    POLICY_VIOLATION = ("policy_violation", ExitStatus.USAGE)
    AMBIGUOUS_KEY = ("ambiguous_key", ExitStatus.USAGE)
    KEY_NOT_FOUND = ("key_not_found", ExitStatus.NOT_FOUND)
    EVENT_NOT_FOUND = ("event_not_found", ExitStatus.NOT_FOUND)
    UNPROVEN = ("unproven", ExitStatus.FOUND)
    LOG_REPLACED = ("log_replaced", ExitStatus.FOUND)
    NAME_TAKEN = ("name_taken", ExitStatus.CONFLICT)
    LOST_RACE = ("lost_race", ExitStatus.CONFLICT)
    WRONG_STATE = ("wrong_state", ExitStatus.CONFLICT)
    CONFLICT = ("conflict", ExitStatus.CONFLICT)
    TOO_MANY = ("too_many_keys", ExitStatus.CONFLICT)
    IN_USE = ("key_in_use", ExitStatus.CONFLICT)
    FORBIDDEN = ("forbidden", ExitStatus.FORBIDDEN)
    UNAUTHENTICATED = ("unauthenticated", ExitStatus.SURROUNDINGS)
    SERVER_UNREACHABLE = ("server_unreachable", ExitStatus.SURROUNDINGS)
    SERVER_ERROR = ("server_error", ExitStatus.SURROUNDINGS)
    CONFIGURATION = ("configuration_invalid", ExitStatus.SURROUNDINGS)
    DATABASE_UNREACHABLE = ("database_unreachable", ExitStatus.SURROUNDINGS)
    DATABASE_BUSY = ("database_busy", ExitStatus.SURROUNDINGS)
    DATABASE_UNUSABLE = ("database_unusable", ExitStatus.SURROUNDINGS)
    DATABASE_MISSING = ("database_missing", ExitStatus.SURROUNDINGS)
    SCHEMA_MISSING = ("schema_missing", ExitStatus.SURROUNDINGS)
    SCHEMA_OUTDATED = ("schema_outdated", ExitStatus.SURROUNDINGS)
    SCHEMA_NEWER = ("schema_newer", ExitStatus.SURROUNDINGS)
    DELIVERY_FAILED = ("delivery_failed", ExitStatus.SURROUNDINGS)
    SIGNATURE_FAILED = ("signature_failed", ExitStatus.SURROUNDINGS)
    OUTPUT_FAILED = ("output_failed", ExitStatus.SURROUNDINGS)
    INPUT_FAILED = ("input_failed", ExitStatus.SURROUNDINGS)
    INTERRUPTED = ("interrupted", ExitStatus.INTERRUPTED)


class KeyctlError(Exception):
    """Raised for everything that a user can be told about.

    `message` says what is wrong, `hint` what to do about it (may be empty). Neither ever holds a raw key or a
    password: code that builds an error from foreign text redacts the text first. `told` is the message for who typed
    what is wrong, and repeats it; a value from a file may be a secret on the wrong line, and is not repeated.
    """

    def __init__(self, code: Code, message: str, hint: str = "", *, told: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.told = message if told is None else told

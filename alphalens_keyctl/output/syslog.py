"""Audit events and uses as lines of syslog (RFC 5424) and of CEF, ArcSight's Common Event Format.

A line is one line whatever a text holds (promise 12). What identifies an event is the same whenever it is printed: in
syslog `id`, in CEF `externalId`.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from alphalens_keyctl import __version__
from alphalens_keyctl.models import Event, Reason, Use
from alphalens_keyctl.moments import UNREADABLE, rfc3339_exact
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.sentences import event_said, use_said
from alphalens_keyctl.settings import PROGRAM

_AUDIT: Final = 13  # the facility "log audit"
_NOTICE, _WARNING, _INFORMATIONAL = 5, 4, 6
# The number is the one that RFC 5612 keeps for examples: we have none of our own.
_ELEMENT: Final = f"{PROGRAM}@32473"
_BOM: Final = "\ufeff"
_UNPRINTABLE: Final = re.compile(r"[^!-~]")
_LONGEST_HOST: Final = 255
_LONGEST_ID: Final = 32
_NOTHING: Final = "-"


def event_as_syslog(event: Event) -> str:
    """An audit event as a line of syslog."""
    values = {
        "id": event.hash.hex(), "seq": event.seq, "actor": event.actor, "key_id": event.key_id,
        "key_name": event.key_name, "reason": _reason(event),
    }  # fmt: skip
    at = None if event.at == UNREADABLE else rfc3339_exact(event.at)
    return _line(_NOTICE, at, _host(event), event.action, values, event_said(event))


def use_as_syslog(use: Use) -> str:
    """A row of the usage log as a line of syslog."""
    values = {"id": use.id, **{name: value for name, value in use._asdict().items() if name not in ("id", "at")}}
    severity = _INFORMATIONAL if use.outcome == Reason.OK else _WARNING
    return _line(severity, use.at, None, f"use.{use.outcome}", values, use_said(use))


def event_as_cef(event: Event) -> str:
    """An audit event as a line of CEF."""
    values = {
        "externalId": event.hash.hex(), "rt": _milliseconds(event.at), "cn1": event.seq, "cn1Label": "seq",
        "suser": event.actor, "shost": _host(event), "duid": event.key_id, "duser": event.key_name, "act": event.action,
        "outcome": "success", "reason": _reason(event), "msg": event_said(event),
    }  # fmt: skip
    return _cef(event.action, event_said(event), 3, values)


def use_as_cef(use: Use) -> str:
    """A row of the usage log as a line of CEF."""
    good = use.outcome == Reason.OK
    at = None if use.at is None else datetime.fromisoformat(use.at)
    values = {
        "externalId": f"usage-{use.id}", "rt": _milliseconds(at), "cnt": use.count, "src": use.client_ip,
        "suid": use.key_id, "suser": use.key_name, "requestMethod": use.method, "request": use.path,
        "requestClientApplication": use.user_agent, "outcome": "success" if good else "failure",
        "reason": use.outcome, "msg": use_said(use),
    }  # fmt: skip
    return _cef(f"use.{use.outcome}", use_said(use), 1 if good else 5, values)


def _line(
    severity: int, at: str | None, host: str | None, message_id: str, values: Mapping[str, object], said: str
) -> str:
    fields = [
        f"<{_AUDIT * 8 + severity}>1",
        at or _NOTHING,
        _header(host, _LONGEST_HOST),
        PROGRAM,
        _NOTHING,
        _header(message_id, _LONGEST_ID),
        "".join(["[", _ELEMENT, *(f' {name}="{_parameter(value)}"' for name, value in _told(values)), "]"]),
        said if said.isascii() else f"{_BOM}{said}",
    ]
    return " ".join(fields) + "\n"


def _cef(signature: str, name: str, severity: int, values: Mapping[str, object]) -> str:
    header = "|".join(_escaped(text, "|") for text in ("AlphaLens", PROGRAM, __version__, signature, name))
    extension = " ".join(f"{key}={_escaped(for_terminal(str(value)), '=')}" for key, value in _told(values))
    return f"CEF:0|{header}|{severity}|{extension}\n"


def _told(values: Mapping[str, object]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in values.items() if value is not None]


def _escaped(text: str, sign: str) -> str:
    return text.replace("\\", "\\\\").replace(sign, f"\\{sign}")


def _parameter(value: object) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", for_terminal(str(value)))


def _header(text: str | None, longest: int) -> str:
    return _UNPRINTABLE.sub("_", text or "")[:longest] or _NOTHING


def _host(event: Event) -> str | None:
    origin = event.detail.get("origin")
    host = origin.get("host") if isinstance(origin, Mapping) else None
    return host if isinstance(host, str) else None


def _reason(event: Event) -> str | None:
    reason = event.detail.get("reason")
    return reason if isinstance(reason, str) else None


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None or at == UNREADABLE else int(at.timestamp() * 1000)

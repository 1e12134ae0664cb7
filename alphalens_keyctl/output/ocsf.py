"""Audit events and uses as events of OCSF 1.8.0 (schema.ocsf.io), for whoever collects security events.

What happens to a key is an Account Change (3001), whose `user` is the key; all else an API Activity (6003). Each event
has an id of its own in `metadata.uid`, the same whenever it is printed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from alphalens_keyctl import __version__
from alphalens_keyctl.models import Action, Event, Reason, Use
from alphalens_keyctl.moments import UNREADABLE
from alphalens_keyctl.output.sentences import event_said, use_said

VERSION: Final = "1.8.0"
_PRODUCT: Final = {"name": "alphalens-keyctl", "vendor_name": "AlphaLens", "version": __version__}
_ACCOUNT_CHANGE, _API_ACTIVITY = 3001, 6003
_SERVICE_ACCOUNT: Final = 4
_OTHER: Final = 99


class _Kind(NamedTuple):
    """A class of events, and an activity of the class."""

    category: int
    class_uid: int
    activity: int


def _account(activity: int) -> _Kind:
    return _Kind(3, _ACCOUNT_CHANGE, activity)


def _api(activity: int) -> _Kind:
    return _Kind(6, _API_ACTIVITY, activity)


_KINDS: Final[Mapping[str, _Kind]] = {
    Action.CREATE: _account(1),
    Action.ACTIVATE: _account(2),
    Action.RESUME: _account(2),
    Action.SUSPEND: _account(5),
    Action.REVOKE: _account(6),
    Action.DISCARD: _account(6),
    Action.PRUNE_USAGE: _api(4),
    Action.SET_POLICY: _api(3),
}
_HTTP: Final = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
_METHODS: Final = {"POST": 1, "GET": 2, "HEAD": 2, "OPTIONS": 2, "PUT": 3, "PATCH": 3, "DELETE": 4}


def event_object(event: Event) -> dict[str, Any]:
    """An audit event."""
    # Also where somebody emptied a row: an account has an id or a name.
    account = event.key_id is not None or event.key_name is not None
    kind = _KINDS.get(event.action, _account(_OTHER))
    if kind.class_uid == _ACCOUNT_CHANGE and not account:
        kind = _api(_OTHER)
    origin = event.detail.get("origin")
    host = origin.get("host") if isinstance(origin, Mapping) else None
    about: dict[str, Any] = {
        "actor": {"user": {"name": event.actor}},
        "src_endpoint": {"hostname": host or "unknown"},
        "unmapped": {"action": event.action, "detail": event.detail},
    }
    if kind.class_uid == _ACCOUNT_CHANGE:
        about["user"] = _present(name=event.key_name, uid=event.key_id, type_id=_SERVICE_ACCOUNT)
    else:
        about["api"] = {"operation": event.action}
    uid = event.hash.hex()
    return _enveloped(kind, event.action, event.at, uid, "audit", event_said(event), event.seq) | _good() | about


def use_object(use: Use) -> dict[str, Any]:
    """A row of the usage log."""
    method = None if use.method is None else use.method.upper()
    kind = _api(0 if method is None else _METHODS.get(method, _OTHER))
    at = datetime.fromisoformat(use.at) if use.at is not None else None
    good = use.outcome == Reason.OK
    known = use.key_id is not None or use.key_name is not None
    user = _present(name=use.key_name, uid=use.key_id, type_id=_SERVICE_ACCOUNT) if known else {"name": "unknown"}
    about = {
        "actor": {"user": user},
        "api": {"operation": use.method or "unknown"},
        "src_endpoint": {"ip": use.client_ip} if use.client_ip else {"name": "unknown"},
        "http_request": _present(
            http_method=method if method in _HTTP else None,
            user_agent=use.user_agent,
            url=None if not use.path else {"path": use.path},
        ),
        "count": use.count,
        "status_id": 1 if good else 2,
        "status_detail": use.outcome,
        "severity_id": 1 if good else 2,
    }
    return _enveloped(kind, use.method, at, f"usage-{use.id}", "usage", use_said(use), use.id) | about


def _enveloped(
    kind: _Kind, name: str | None, at: datetime | None, uid: str, log: str, message: str, sequence: int
) -> dict[str, Any]:
    metadata = {"version": VERSION, "product": _PRODUCT, "uid": uid, "log_name": log, "sequence": sequence}
    named = {"activity_name": name} if kind.activity == _OTHER and name else {}
    return {
        "category_uid": kind.category,
        "class_uid": kind.class_uid,
        "activity_id": kind.activity,
        **named,
        "type_uid": kind.class_uid * 100 + kind.activity,
        "time": 0 if at is None or at == UNREADABLE else int(at.timestamp() * 1000),
        "message": message,
        "metadata": metadata,
    }


def _good() -> dict[str, Any]:
    return {"severity_id": 1, "status_id": 1}


def _present(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

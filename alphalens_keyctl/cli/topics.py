"""The topics of `help`: the files of `alphalens_keyctl/docs/`, by name, with a line about each."""

from collections.abc import Mapping
from typing import Final

TOPICS: Final[Mapping[str, str]] = {
    "delivery": "Where a new raw key goes: files, the keyring, commands, CI.",
    "rotation": "A key and its successor: grace, trial, the way back, many at once.",
    "fleet": "Filters and guards, cron, the policy check, moving a fleet in.",
    "json": "The documents that --json prints, and their fields.",
    "exit-codes": "Exit codes, and the codes of errors.",
    "settings": "Options, environment and config.toml; spans and instants.",
    "postgresql": "Databases: SQLite, PostgreSQL, roles, standbys.",
    "backup": "Back a database up, and put it back.",
    "audit-log": "The log of changes and its proof, and the log of uses.",
    "python": "KeyVerifier and middleware, for services in Python.",
    "proxies": "serve, behind nginx, Caddy, Traefik, Envoy or HAProxy.",
    "metrics": "serve, watched by Prometheus: what it counts, and alerts.",
    "api": "serve-api: keys over HTTP, each caller within its rights.",
}

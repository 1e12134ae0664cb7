"""Programs and rights that the real parts need and a bare machine may lack."""

import os
import shutil
from typing import NoReturn

import pytest


def require_tool(program: str, package: str | None = None) -> str:
    """The path of a program, or `lack`."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    return path or lack(f"needs {program}, from Debian's package {package or program}")


def lack(reason: str) -> NoReturn:
    """Skip the test, saying why; in CI fail it, because there the script that runs the tests provides for it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

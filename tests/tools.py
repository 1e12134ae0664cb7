"""Programs that the real parts need and a bare machine may lack."""

import os
import shutil

import pytest


def require_tool(program: str, package: str | None = None) -> str:
    """The path of a program. Where it is missing the test is skipped, saying so; in CI it fails instead,
    because there the script that runs the tests installs it."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        reason = f"needs {program}, from Debian's package {package or program}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path

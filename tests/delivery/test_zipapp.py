"""The program as one file, as shiv makes it: what a destination starts finds the program there too."""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.services.secret_service import secret_service
from tests.support.commands import LIMIT, ROOT, Keyctl

PROGRAM = "alphalens-keyctl"


def needed(name: str, found: dict[str, metadata.Distribution]) -> dict[str, metadata.Distribution]:
    """Every distribution that this one needs, as it is installed here, by name."""
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name.lower() not in found:
            found[requirement.name.lower()] = metadata.distribution(requirement.name)
            needed(requirement.name, found)
    return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `shiv -c alphalens-keyctl .` makes, of the packages that are installed: nothing is fetched."""
    folder = tmp_path_factory.mktemp("zipapp")
    site = folder / "site"
    shutil.copytree(ROOT / "alphalens_keyctl", site / "alphalens_keyctl", ignore=shutil.ignore_patterns("__pycache__"))
    for distribution in needed(PROGRAM, {}).values():
        for file in distribution.files or ():
            if file.parts[0] != ".." and "__pycache__" not in file.parts:
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    made = folder / PROGRAM
    command = [
        sys.executable, "-m", "shiv", "--site-packages", str(site), "--uncompressed", "--root", str(folder / "root"),
        "-e", "alphalens_keyctl.cli.entry:main", "-o", str(made),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT)
    return made


def run(archive: Path, keyctl: Keyctl, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in keyctl.environment.items() if name != "PYTHONPATH"}
    # -I: nothing but what the archive carries.
    return subprocess.run(
        [sys.executable, "-I", str(archive), *arguments], env=environment, cwd=keyctl.home, capture_output=True,
        text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_program_as_one_file_makes_a_database_and_a_key_and_reaches_the_keyring(
    archive: Path, fresh_keyctl: Keyctl, tmp_path: Path
) -> None:
    """Promise 2. The migrations are files, too, and what asks the keyring is a process of its own."""
    with secret_service(tmp_path / "service") as service:
        fresh_keyctl.environment.update(service.environment)
        created = run(archive, fresh_keyctl, "create", "ci", "--keyring")
        assert created.returncode == 0, created.stderr
        assert service.read("ci") == created.stdout.strip()
    assert fresh_keyctl.opens(created.stdout.strip())

"""Other libraries verifying a good key, each in an environment of its own that pip makes for this run."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import processes, seeding, table, verifying
from tests.benchmarks.scale import Scale

# Prints its version and the microseconds that one verification took. Arguments: a file for the database, how many. Each
# verification is a session of its own, as a request has one, and its commit; the delay of 0.1 to 0.3 s that
# comes with the library's own settings is switched off.
_KEYSHIELD = """
import asyncio, sys, time
from importlib.metadata import version
from keyshield.hasher.argon2 import Argon2ApiKeyHasher
from keyshield.repositories.sql import SqlAlchemyApiKeyRepository
from keyshield.services.base import ApiKeyService
from keyshield.services.cached import CachedApiKeyService
from aiocache import SimpleMemoryCache
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

async def main(path, count, cached):
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    hasher, cache = Argon2ApiKeyHasher(pepper="a pepper for this run"), SimpleMemoryCache()
    def service(session):
        options = dict(repo=SqlAlchemyApiKeyRepository(session), hasher=hasher, min_delay=0, max_delay=0)
        return CachedApiKeyService(**options, cache=cache) if cached else ApiKeyService(**options)
    async with AsyncSession(engine) as session:
        await SqlAlchemyApiKeyRepository(session).ensure_table(engine)
        _, raw_key = await service(session).create(name="service")
        await session.commit()
    async def verify():
        async with AsyncSession(engine) as session:
            await service(session).verify_key(raw_key)
            await session.commit()
    await verify()
    begin = time.perf_counter()
    for _ in range(count):
        await verify()
    print(version("keyshield"), (time.perf_counter() - begin) / count * 1e6)
    await engine.dispose()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), CACHED))
"""
_REST_FRAMEWORK = """
import sys, time
from importlib.metadata import version
import django
from django.conf import settings
from django.core.management import call_command
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    INSTALLED_APPS=["rest_framework_api_key"], USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()
call_command("migrate", verbosity=0)
from rest_framework_api_key.models import APIKey
_, raw_key = APIKey.objects.create_key(name="service")
assert APIKey.objects.is_valid(raw_key)
begin = time.perf_counter()
for _ in range(int(sys.argv[2])):
    APIKey.objects.is_valid(raw_key)
print(version("djangorestframework-api-key"), (time.perf_counter() - begin) / int(sys.argv[2]) * 1e6)
"""


class _Other(NamedTuple):
    name: str
    requirements: tuple[str, ...]
    code: str


_SHIELD = ("keyshield[core]", "sqlalchemy[asyncio]", "aiosqlite")
_OTHERS = (
    _Other("keyshield, cache on", _SHIELD, _KEYSHIELD.replace("CACHED", "True")),
    _Other("keyshield, cache off", _SHIELD, _KEYSHIELD.replace("CACHED", "False")),
    _Other(
        "djangorestframework-api-key",
        ("djangorestframework-api-key", "djangorestframework", "django"),
        _REST_FRAMEWORK,
    ),
)


def rows(scale: Scale, folder: Path) -> list[table.Row]:
    path = folder / "keys.db"
    seeding.sqlite(path, keys=0, events=0)
    ours = verifying.warm_on_sqlite(str(path), seeding.known(1, str(path)), scale)
    env = processes.environment(folder)
    env.pop("PYTHONPATH")
    result = []
    for number, other in enumerate(_OTHERS):
        python = _installed(folder, other.requirements)
        if python is None:
            name = f"{other.name}: not measured, pip cannot install it"
            result.append(table.rate("verify, SQLite, warm", ours, None, name, None))
            continue
        arguments = (str(folder / f"other-{number}.db"), str(scale.seconds * 50))
        version, microseconds = processes.output((str(python), "-c", other.code, *arguments), env).decode().split()
        name = f"{other.name}, {version}"
        result.append(table.rate("verify, SQLite, warm", ours, 1e6 / float(microseconds), name, None))
    return result


def _installed(folder: Path, requirements: tuple[str, ...]) -> Path | None:
    """The interpreter of an environment with these in it; None where pip does not get them."""
    home = folder / requirements[0].partition("[")[0]
    python = home / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    # With the environment of whoever started the benchmark: it says where packages come from.
    done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], stdout=2, check=False)
    return python if done.returncode == 0 else None

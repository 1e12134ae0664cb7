"""The API over both databases."""

from collections.abc import Iterator

import pytest

from alphalens_keyctl.database import Database
from tests.support.api import Api, api_over


@pytest.fixture
def api(database_url: str, database: Database) -> Iterator[Api]:
    with api_over(database_url, database) as api:
        yield api

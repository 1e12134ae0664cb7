"""The description of the API says what it does; schemathesis asks what the description allows, and what not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from alphalens_keyctl.database import Database
from tests.support.api import Api, api_over
from tests.support.commands import Keyctl
from tests.support.readme import block
from tests.support.shell import Shell
from tests.support.web import asgi_server, serving

pytestmark = pytest.mark.one_database


@pytest.fixture
def api(database_url: str, database: Database) -> Iterator[Api]:
    with api_over(database_url, database) as api:
        yield api


def test_every_route_is_described_and_nothing_comes_from_elsewhere(api: Api) -> None:
    described = api.ask(None, "GET", "/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    routes = {f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods}
    assert {"GET /v1/keys", "POST /v1/keys", "PATCH /v1/keys/{key}", "POST /v1/keys:revoke", "GET /v1/self"} <= routes
    assert len(routes) == 48
    for page in ("/docs", "/redoc"):
        assert api.ask(api.caller("admin"), "GET", page).status_code == 404
    assert "http://" not in json.dumps(described)
    assert "https://" not in json.dumps(described)


def test_what_the_description_allows_and_forbids_is_answered_as_it_says(api: Api) -> None:
    # Here, since every worker that collects the tests would wait a second for them.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    with asgi_server(api.door, lifespan="on") as address:
        url = f"http://127.0.0.1:{address.port}"
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        answered: list[int] = []
        for result in schema.get_all_operations():
            operation: Any = result.ok()  # type: ignore[union-attr]  # an error would be one of the description
            raw = api.raw(api.caller("admin"))  # another for each: one of them ends its own

            @settings(
                max_examples=2,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def each(case: Any) -> None:
                response = case.call(headers={"API-Key": raw}, timeout=10)  # noqa: B023  # called at once
                case.validate_response(
                    response, checks=[not_a_server_error, status_code_conformance, content_type_conformance]
                )
                answered.append(response.status_code)

            each()
    assert len(answered) >= 33
    assert {200, 404, 422} <= set(answered)


def test_the_transcript_of_the_topic_runs(keyctl: Keyctl, tmp_path: Path) -> None:
    """A real curl, as a user has it."""
    lines = block("api", "sh").splitlines()
    shell = Shell(keyctl, tmp_path, {})
    assert shell.run(lines[0]).status == 0
    with serving(keyctl, command="serve-api") as served:
        script = "\n".join(lines[1:]).replace("127.0.0.1:8378", f"127.0.0.1:{served.address.port}")
        (tmp_path / "script").write_text("set -euo pipefail\n" + script)
        done = shell.run("bash script")
    assert done.status == 0, done
    assert "\nadmin\n" in done.stdout
    assert (tmp_path / "billing.key").read_text().startswith("alk_")

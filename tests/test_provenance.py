"""Who acts, and from where: what every audit event says (promise 6). What comes from the environment is foreign
text: it is made inert (promise 12) and loses its tokens (promise 1)."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alphalens_keyctl import text
from alphalens_keyctl.keyformat import resembles_raw_key
from alphalens_keyctl.provenance import CiRun, Origin, actor_name, claims_in, origin, recognise_ci

# Each system's variables as its documentation shows them.
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "octo-org/octo-repo",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_RUN_ID": "1658821493",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_PATH": "group/sub/project",
    "CI_JOB_URL": "https://gitlab.example.com/group/sub/project/-/jobs/1",
}
BUILDKITE = {
    "BUILDKITE": "true",
    "BUILDKITE_PIPELINE_SLUG": "my-pipeline",
    "BUILDKITE_BUILD_URL": "https://buildkite.com/acme-inc/my-pipeline/builds/1514",
}
CIRCLE = {
    "CIRCLECI": "true",
    "CIRCLE_PROJECT_REPONAME": "repo",
    "CIRCLE_BUILD_URL": "https://circleci.com/gh/org/repo/1",
}
AZURE = {"TF_BUILD": "True", "BUILD_REPOSITORY_NAME": "repo"}
JENKINS = {
    "JENKINS_URL": "https://ci.example.com/jenkins/",
    "JOB_NAME": "folder/job",
    "BUILD_URL": "https://ci.example.com/jenkins/job/folder/job/job/15/",
}


@pytest.mark.parametrize(
    ("environment", "run"),
    [
        (
            GITHUB,
            CiRun(
                "github-actions", "octo-org/octo-repo", "https://github.com/octo-org/octo-repo/actions/runs/1658821493"
            ),
        ),
        (GITLAB, CiRun("gitlab-ci", "group/sub/project", GITLAB["CI_JOB_URL"])),
        (BUILDKITE, CiRun("buildkite", "my-pipeline", BUILDKITE["BUILDKITE_BUILD_URL"])),
        (CIRCLE, CiRun("circleci", "repo", CIRCLE["CIRCLE_BUILD_URL"])),
        (AZURE, CiRun("azure-pipelines", "repo", None)),
        (JENKINS, CiRun("jenkins", "folder/job", JENKINS["BUILD_URL"])),
    ],
    ids=lambda value: value.system if isinstance(value, CiRun) else "",
)
def test_each_ci_system_is_recognised_by_its_documented_variables(environment: dict[str, str], run: CiRun) -> None:
    assert recognise_ci({"PATH": "/bin", "HOME": "/root", **environment}) == run


@pytest.mark.parametrize("environment", [GITHUB, GITLAB, BUILDKITE, CIRCLE, AZURE, JENKINS])
def test_a_run_without_its_marker_is_not_recognised(environment: dict[str, str]) -> None:
    marker = next(iter(environment))
    assert recognise_ci({name: value for name, value in environment.items() if name != marker}) is None
    assert recognise_ci(environment | {marker: ""}) is None


@pytest.mark.parametrize("environment", [GITHUB, GITLAB, BUILDKITE, CIRCLE, AZURE, JENKINS])
def test_a_run_of_which_only_the_marker_is_set_is_recognised_without_the_rest(environment: dict[str, str]) -> None:
    marker, value = next(iter(environment.items()))
    run = recognise_ci({marker: value})
    assert run is not None
    assert (run.project, run.url) == ("", None)
    assert actor_name(None, run, "root") == run.system


def test_no_ci_is_recognised_in_an_ordinary_environment() -> None:
    assert recognise_ci({}) is None
    assert recognise_ci({"CI": "true", "USER": "root", "BUILD_URL": "https://example.com"}) is None


@pytest.mark.parametrize("missing", ["GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"])
def test_a_github_run_has_a_page_only_when_all_its_parts_are_there(missing: str) -> None:
    run = recognise_ci({name: value for name, value in GITHUB.items() if name != missing})
    assert run is not None
    assert run.url is None


def page(url: str) -> str | None:
    run = recognise_ci(JENKINS | {"BUILD_URL": url})
    assert run is not None
    return run.url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:t0ken@ci.example.com/job/1", "https://ci.example.com/job/1"),
        ("https://t0ken@ci.example.com/job/1", "https://ci.example.com/job/1"),
        ("https://a@b:t0ken@ci.example.com/job/1", "https://ci.example.com/job/1"),
        ("https://ci.example.com/job/1?private_token=t0ken", "https://ci.example.com/job/1"),
        ("https://ci.example.com/job/1#access_token=t0ken", "https://ci.example.com/job/1"),
        ("https://ci.example.com?t0ken", "https://ci.example.com"),
        ("http://ci.example.com:8080/job/1", "http://ci.example.com:8080/job/1"),
        ("https://[2001:db8::1]:8443/job/1", "https://[2001:db8::1]:8443/job/1"),
        ("HTTPS://ci.example.com/", "https://ci.example.com/"),
        ("javascript:alert(1)", None),
        ("file:///etc/passwd", None),
        ("data:text/html,x", None),
        ("//ci.example.com/job", None),
        ("ci.example.com/job", None),
        ("https:///job", None),
        ("https://[::1/job", None),
        ("", None),
        ("   ", None),
    ],
)
def test_a_runs_page_is_a_web_page_without_tokens(url: str, shown: str | None) -> None:
    assert page(url) == shown


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=400),
    st.sampled_from(["https://{}@ci.example.com/1", "https://u:{}@ci.example.com/1", "https://ci.example.com/1?t={}"])
    | st.sampled_from(["https://ci.example.com/1#{}", "https://u:{}@ci.example.com/1?t={}"]),
)
@example("t" * 300, "https://u:{}@ci.example.com/1")
@example("t" * 300, "https://{}@ci.example.com/1")
def test_no_token_of_a_url_is_kept_however_long(token: str, url: str) -> None:
    """Promise 1: a token in the log would be there for ever."""
    assert page(url.format(*[quote(token, safe="")] * 2)) in ("https://ci.example.com/1", None)


@pytest.mark.parametrize("bare", ["/", "?", "#"])
def test_a_password_that_somebody_forgot_to_escape_is_not_kept_either(bare: str) -> None:
    """The URL then ends its host where the password has this character."""
    assert "hunter" not in (page(f"https://user:hunter{bare}two@ci.example.com/1") or "")


def test_a_long_page_is_left_out_or_whole() -> None:
    """A page cut short leads elsewhere, perhaps to another run."""
    url = "https://ci.example.com/job/" + "deep/" * 60 + "15/"
    assert page(url) in (url, None)


TEXTS = st.text(st.characters(), max_size=300)


@given(TEXTS, TEXTS, TEXTS, st.none() | TEXTS)
def test_what_comes_from_outside_is_made_inert(project: str, url: str, host: str, os_user: str | None) -> None:
    """Promise 12."""
    run = recognise_ci(JENKINS | {"JOB_NAME": project, "BUILD_URL": f"https://ci.example.com/{url}"})
    assert run is not None
    where = origin(host=host, os_user=os_user, ci=run)
    for said in (run.project, run.url, *where, actor_name(None, run, os_user), actor_name(None, None, os_user)):
        assert said is None or all(map(text.is_inert, said))


@given(st.text(st.characters(), min_size=1, max_size=400))
@example("x" * 400)
@example("\u0301x")
@example("e\u0301")
def test_an_actor_that_was_found_out_can_be_asked_for(found: str) -> None:
    """`audit --actor` takes what `create` wrote: the same length, the same normal form."""
    run = recognise_ci(JENKINS | {"JOB_NAME": found})
    for actor in (actor_name(None, run, None), actor_name(None, None, found)):
        assert text.parse_line(actor, what="actor", longest=text.LONGEST_ACTOR) == actor


def test_the_actor_is_the_given_name_then_the_ci_run_then_the_user() -> None:
    run = CiRun("gitlab-ci", "group/project", None)
    assert actor_name("release bot", run, "root") == "release bot"
    assert actor_name(None, run, "root") == "gitlab-ci:group/project"
    assert actor_name(None, None, "root") == "root"
    assert actor_name(None, None, None) == "unknown"
    assert actor_name(None, None, "") == "unknown"
    assert actor_name(None, None, "  ") == "unknown"


def test_an_origin_says_what_is_known_and_none_for_the_rest() -> None:
    run = CiRun("jenkins", "job", "https://ci.example.com/1")
    assert origin(host="web1", os_user="ops", ci=run) == Origin("web1", "ops", "jenkins", "https://ci.example.com/1")
    assert origin(host="", os_user=None, ci=None) == Origin(None, None, None, None)
    assert origin(host="web\x1b1", os_user="a\nb", ci=None) == Origin("web?1", "a?b", None, None)


def test_who_is_behind_the_user_is_kept_as_a_claim_and_is_nobody_where_nothing_is_said() -> None:
    """The actor stays the user whom the kernel names: anybody can set a variable."""
    claims = claims_in({"SUDO_USER": "jo", "DOAS_USER": "ann", "SUDO_COMMAND": "x", "USER": "root"})
    assert claims == {"sudo_user": "jo", "doas_user": "ann"}
    assert origin(host="web1", os_user="root", ci=None, claims=claims).claims == claims
    for nothing in ({}, {"SUDO_USER": ""}, {"SUDO_USER": "  "}, {"LOGNAME": "jo"}):
        assert origin(host="web1", os_user="root", ci=None, claims=claims_in(nothing)).claims is None


@given(st.text(st.characters(), max_size=400))
@example("jo\x1b]0;title\x07\u202e")
@example("x" * 10_000)
@example("alk_000000000000_" + "0" * 49)
def test_a_claim_is_made_inert_and_short(said: str) -> None:
    """Promises 1 and 12."""
    for user in claims_in({"SUDO_USER": said, "DOAS_USER": said}).values():
        assert all(map(text.is_inert, user))
        assert len(user) <= text.LONGEST_ACTOR
        assert not resembles_raw_key(user)

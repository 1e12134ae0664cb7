"""Who acts, when, and from where: what every audit event says beside what was done."""

import os
import pwd
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.text import LONGEST_ACTOR, tame

_LONGEST: Final = 2000  # characters of a link or of the name of a host


class Origin(NamedTuple):
    """Where a change came from. None means: not known.

    `claims` are what the environment says of who is behind the user of the operating system: anybody can say so.
    `address` and `request_id` are those of a request over HTTP.
    """

    host: str | None
    os_user: str | None
    ci: str | None
    ci_run_url: str | None
    claims: Mapping[str, str] | None = None
    address: str | None = None
    request_id: str | None = None


class Act(NamedTuple):
    """Who acts, at which instant (aware, UTC), and from where."""

    at: datetime
    actor: str
    origin: Origin

    def now(self) -> "Act":
        """The act at the present instant: a question or a delivery may have taken its time."""
        return self._replace(at=utc_now())


class CiRun(NamedTuple):
    """A run of a CI system: the system, what the system calls the project, and the web page of the run."""

    system: str
    project: str
    url: str | None


# For each system its documented variables: the one that is set in every run, the project, the web page of the run.
_SYSTEMS: Final = (
    ("github-actions", "GITHUB_ACTIONS", "GITHUB_REPOSITORY", None),
    ("gitlab-ci", "GITLAB_CI", "CI_PROJECT_PATH", "CI_JOB_URL"),
    ("buildkite", "BUILDKITE", "BUILDKITE_PIPELINE_SLUG", "BUILDKITE_BUILD_URL"),
    ("circleci", "CIRCLECI", "CIRCLE_PROJECT_REPONAME", "CIRCLE_BUILD_URL"),
    ("azure-pipelines", "TF_BUILD", "BUILD_REPOSITORY_NAME", None),
    ("jenkins", "JENKINS_URL", "JOB_NAME", "BUILD_URL"),
)

# What tells a program that is run as another user who asked for it: `sudo` and systemd's `run0`, and `doas`.
_CLAIMS: Final = {"sudo_user": "SUDO_USER", "doas_user": "DOAS_USER"}


def recognise_ci(environment: Mapping[str, str]) -> CiRun | None:
    """The CI run that `environment` describes, or None. Its texts come from outside and are made inert (promise 12)."""
    for system, marker, project, url in _SYSTEMS:
        if environment.get(marker, "").lower() not in ("", "false", "0"):
            page = _github_page(environment) if system == "github-actions" else environment.get(url or "")
            return CiRun(system, tame(environment.get(project, ""), longest=LONGEST_ACTOR), _web_page(page))
    return None


def actor_name(given: str | None, ci: CiRun | None, os_user: str | None) -> str:
    """The name of the actor: `given`, else the CI run, else the user of the operating system, else `unknown`."""
    if given is not None:
        return given
    if ci is not None:
        return tame(f"{ci.system}:{ci.project}" if ci.project else ci.system, longest=LONGEST_ACTOR)
    return tame(os_user or "", longest=LONGEST_ACTOR) or "unknown"


def claims_in(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The users on whose behalf, says `environment`, the program runs; by `sudo_user` and `doas_user`.

    The texts come from outside and are made inert (promise 12).
    """
    said = {name: tame(environment.get(variable, ""), longest=LONGEST_ACTOR) for name, variable in _CLAIMS.items()}
    return {name: user for name, user in said.items() if user}


def origin(*, host: str, os_user: str | None, ci: CiRun | None, claims: Mapping[str, str] | None = None) -> Origin:
    """The origin of what this process does, its texts made inert (promise 12)."""
    return Origin(
        host=tame(host, longest=_LONGEST) or None,
        os_user=tame(os_user or "", longest=_LONGEST) or None,
        ci=ci.system if ci else None,
        ci_run_url=ci.url if ci else None,
        claims=claims or None,
    )


def act_of_this_process(given: str | None, at: datetime) -> Act:
    """What this process does from `at` on. `given` names the actor, where somebody did."""
    os_user = _os_user()
    ci = recognise_ci(os.environ)
    host, claims = os.uname().nodename, claims_in(os.environ)
    return Act(at, actor_name(given, ci, os_user), origin(host=host, os_user=os_user, ci=ci, claims=claims))


def _os_user() -> str | None:
    """The user who runs this, as the kernel has it: anybody can set LOGNAME and USER."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _github_page(environment: Mapping[str, str]) -> str | None:
    parts = [environment.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return f"{parts[0]}/{parts[1]}/actions/runs/{parts[2]}" if all(parts) else None


def _web_page(url: str | None) -> str | None:
    """The URL without user, password, query and fragment, which may carry a token; None where that is no web page."""
    if not url:
        return None
    try:
        parts = urlsplit(url.strip())
        # Reading the port raises where it is no number: an unescaped '/' in a password ends the host early, and what is
        # left of the token then stands where the port should.
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc or port == 0:
        return None
    page = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return tame(page, longest=_LONGEST) if len(page) <= _LONGEST else None  # half a link leads elsewhere

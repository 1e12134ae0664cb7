"""Where the database is. URLs in any message have no password in any form."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alphalens_keyctl.address import Address, PostgreSQLAddress, SQLiteAddress, parse_address
from alphalens_keyctl.database.postgresql import make_engine
from alphalens_keyctl.errors import Code, KeyctlError

# libpq takes no NUL; surrogates cannot stand in a URL in percent form.
PASSWORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
# What a password generator may put into a password and a URL means otherwise, between letters that no message has.
BARE = st.text("ЖЩ@:/?#[]%&=+ ", min_size=1, max_size=12)


def refusal(url: str, parse: Callable[[str], object] = parse_address) -> KeyctlError:
    with pytest.raises(KeyctlError) as caught:
        parse(url)
    assert caught.value.code is Code.CONFIGURATION
    return caught.value


def parsed_or_refused(url: str) -> Address | KeyctlError:
    """Anything raised but a refusal of the configuration fails the test."""
    try:
        return parse_address(url)
    except KeyctlError as error:
        if error.code is not Code.CONFIGURATION:
            raise
        return error


def sqlite(url: str) -> Path:
    address = parse_address(url)
    assert isinstance(address, SQLiteAddress)
    return address.path


def postgresql(url: str) -> PostgreSQLAddress:
    address = parse_address(url)
    assert isinstance(address, PostgreSQLAddress)
    return address


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative paths begin here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path.resolve()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("keys.db", "keys.db"),
        ("./keys.db", "keys.db"),
        ("a/../keys.db", "keys.db"),
        ("a b/ключи.db", "a b/ключи.db"),
        ("~/keys.db", "home/keys.db"),
        ("sqlite:///keys.db", "keys.db"),
        ("sqlite:///a/keys.db", "a/keys.db"),
        ("sqlite:///a%20b.db", "a b.db"),
        ("SQLite:///keys.db", "keys.db"),
        ("a%20b.db", "a%20b.db"),
        ("c:keys.db", "c:keys.db"),
        ("keys.db?mode=ro", "keys.db?mode=ro"),
    ],
)
def test_a_path_or_a_url_with_three_slashes_is_a_file_here(folder: Path, url: str, path: str) -> None:
    assert sqlite(url) == folder / path


def test_an_absolute_path_or_a_url_with_four_slashes_is_a_file_anywhere(folder: Path) -> None:
    assert sqlite("/srv/keys.db") == Path("/srv/keys.db")
    assert sqlite("sqlite:////srv/keys.db") == Path("/srv/keys.db")
    assert sqlite(f"sqlite:///{folder}/keys.db") == folder / "keys.db"


def test_two_ways_to_one_file_are_one_address(folder: Path) -> None:
    """Else each would look for its lock file in another place."""
    (folder / "keys.db").touch()
    (folder / "link.db").symlink_to("keys.db")
    (folder / "deep").mkdir()
    (folder / "way").symlink_to("deep")
    assert sqlite("link.db") == sqlite("keys.db") == sqlite("deep/../keys.db")
    assert sqlite("way/keys.db") == sqlite("deep/keys.db")
    assert parse_address("link.db").display == str(folder / "keys.db")


@pytest.mark.parametrize(
    "url",
    [
        *["", ":memory:", "sqlite://", "sqlite:", "sqlite:keys.db", "sqlite:/srv/keys.db", "sqlite://srv/keys.db"],
        *["sqlite:///", "sqlite:///:memory:", "sqlite:///%3Amemory%3A", "sqlite:///keys.db?mode=memory"],
        *["sqlite:///keys.db#x", "file:///srv/keys.db", "mysql://host/db", "postgresql+asyncpg://host/db"],
        *["postgresql+psycopg2://host/db", "http://example.com", "x+y.z-1://host", "postgresql:host", "postgres:/host"],
        *["keys.db\0", "keys\n.db", "postgresql://host/db\n", "postgresql://host\0/db", "sqlite:///keys%00.db"],
        *["sqlite:///keys%0A.db", "postgresql://[::1/db", "postgresql://ho\u2100st/db"],
    ],
)
def test_what_is_neither_a_file_nor_a_postgresql_url_is_refused_with_a_hint(url: str) -> None:
    error = refusal(url)
    assert error.hint
    assert (error.message + error.hint).isprintable()


@pytest.mark.parametrize("character", ["\r", "\t", "\x01", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029"])
def test_a_control_character_is_refused_wherever_it_stands(folder: Path, character: str) -> None:
    """Promise 12, and a URL that a file with Windows' ends of lines gave would make another database."""
    coded = quote(character, safe="")
    for url in (
        *[f"{folder}/e.db{{}}", "{}e.db", "sqlite:///e.db{}", "sqlite:///a{}/e.db", "postgresql://host/db{}"],
        *["postgresql://h{}ost/db", "postgresql://u{}:pw@host/db", "postgresql://host/db?options={}"],
    ):
        assert "control character" in refusal(url.format(character)).message, url
        if "://" in url:
            assert "control character" in refusal(url.format(coded)).message, url
    assert list(folder.iterdir()) == []


def test_the_home_of_nobody_is_refused() -> None:
    refusal("~no-such-user-here/keys.db")


def test_a_link_that_leads_to_itself_is_refused(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    for url in ("loop", "loop/keys.db", f"sqlite:///{folder}/loop/keys.db"):
        refusal(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "PostgreSQL", "POSTGRES"])
@pytest.mark.parametrize(
    ("rest", "display"),
    [
        ("host/db", "host/db"),
        ("user@host/db", "user@host/db"),
        ("user:hunter2@host:5432/db", "user@host:5432/db"),
        ("user:@host/db", "user@host/db"),
        (":hunter2@host/db", "host/db"),
        ("user:hunter2@/db", "user@/db"),
        ("user:hunter2@a:5432,b:5433/db", "user@a:5432,b:5433/db"),
        ("user:hunter2@[::1]:5432/db", "user@[::1]:5432/db"),
        ("user:hunter2@%2Fvar%2Frun/db", "user@%2Fvar%2Frun/db"),
        ("u%40corp:hunter2@host", "u%40corp@host"),
        ("/db", "/db"),
        ("", ""),
        ("host/db?password=hunter2", "host/db"),
        ("host/db?user=u&sslpassword=hunter2&sslmode=require", "host/db"),
        ("host/db?passfile=hunter2", "host/db"),
        ("host?host=%2Fvar%2Frun&%70assword=hunter2", "host"),
    ],
)
def test_a_postgresql_url_is_shown_without_its_password(scheme: str, rest: str, display: str) -> None:
    address = postgresql(f"{scheme}://{rest}")
    assert address.display == f"postgresql://{display}"
    assert address.conninfo == f"postgresql://{rest}"
    assert "hunter2" not in f"{address!r} {address} {address.display}"
    if "hunter2" in rest:
        assert address.scrub('password "hunter2" is wrong') == 'password "***" is wrong'


@given(PASSWORDS, st.sampled_from(["", "!$&'()*+,;="]))
def test_a_percent_escaped_password_is_hidden_whatever_it_is(password: str, safe: str) -> None:
    """It does not show because the display does not depend on it at all."""
    written = quote(password, safe=safe)
    address = postgresql(f"postgresql://user:{written}@host:5432/db")
    assert address.display == "postgresql://user@host:5432/db"
    assert repr(address) == f"PostgreSQLAddress(display={address.display!r})"


@given(PASSWORDS, st.sampled_from(["password", "sslpassword"]), st.sampled_from(["", "user@", "user:other@"]))
def test_a_password_among_the_parameters_is_hidden_whatever_it_is(password: str, name: str, user: str) -> None:
    address = postgresql(f"postgres://{user}host/db?sslmode=require&{name}={quote(password, safe='')}")
    assert address.display == f"postgresql://{user.replace(':other', '')}host/db"
    assert repr(address) == f"PostgreSQLAddress(display={address.display!r})"


@given(
    # Neither the quotes it is looked for in, nor the stars it is replaced by.
    PASSWORDS.map(lambda password: password.replace('"', "x").replace("*", "x")),
    st.sampled_from(["u:{}@h/db", "h/db?password={}", "h/db?sslpassword={}", "u:other@h/db?user=u&password={}"]),
)
@example("c+d", "h/db?password={}")
@example("a@b", "h/db?password={}")
def test_a_drivers_message_loses_the_password_as_it_is_and_as_it_was_written(password: str, url: str) -> None:
    written = quote(password, safe="+")
    address = postgresql("postgresql://" + url.format(written))
    for form in (password, written):
        # In quotes, so that what is left over of a password can be told from the words around it.
        assert address.scrub(f'"{form}"') == '"***"'


@pytest.mark.parametrize("url", ["u:{}@h/db", "h/db?password={}", "h/db?sslpassword={}"])
@pytest.mark.parametrize("password", ["hunter2%zz", "hunter2%40%zz", "hunter2%", "hunter2+x%4", "%C3%A4hunter2%zz"])
def test_libpqs_own_complaint_about_a_password_does_not_repeat_it(url: str, password: str) -> None:
    """libpq quotes what it cannot decode: `invalid percent-encoded token: "…"`."""
    address = postgresql("postgresql://" + url.format(password))
    error = refusal(
        "", lambda _: make_engine(address, connect_timeout=1.0, lock_timeout=1.0, query_timeout=1.0).dispose()
    )
    assert "hunter2" not in error.message + error.hint
    assert "invalid percent-encoded token" in error.message


@pytest.mark.parametrize("bare", ["@", "/", "?", "#", ":"])
@pytest.mark.parametrize("place", ["{}hunter2", "hunt{}er2", "hunter2{}", "hunt{}er2{}x"])
def test_a_password_with_a_bare_separator_is_refused_and_not_repeated(bare: str, place: str) -> None:
    """A parser would take its second half for the host, and show it; libpq would connect there."""
    password = place.replace("{}", bare)
    for url in (f"postgresql://user:{password}@host/db", f"postgres://user:{password}@host:5432/db?sslmode=require"):
        error = refusal(url)
        assert "%40" in error.hint, "the hint says how to write such a character"
        assert "hunt" not in error.message + error.hint
        assert "er2" not in error.message + error.hint


@given(BARE, st.sampled_from(["@host/db", "@host:5432/db?sslmode=require", "@", "@/db", "@[::1]/db"]))
@example("Ж?Щ", "@host/db")
@example("Ж/Ж?Щ", "@host/db")
def test_a_password_written_bare_is_refused_or_wholly_hidden(password: str, rest: str) -> None:
    found = parsed_or_refused(f"postgresql://user:{password}{rest}")
    if isinstance(found, KeyctlError):
        assert not set("ЖЩ") & set(found.message + found.hint)
    else:
        assert found.display == f"postgresql://user{rest.partition('?')[0]}"
        assert repr(found) == f"PostgreSQLAddress(display={found.display!r})"


@pytest.mark.parametrize("rest", ["user:hunter2", "user:hunter2/db", "user:hunter2/db?sslmode=require"])
def test_a_port_that_is_no_number_is_refused_and_not_repeated(rest: str) -> None:
    """Somebody left the host out: what stands where the port would be is the password."""
    assert "hunter2" not in str(refusal(f"postgresql://{rest}"))


@given(PASSWORDS)
def test_no_refusal_repeats_the_url(password: str) -> None:
    """Whatever is wrong with a URL, what is said about it is the same for every password."""
    plain = quote(password, safe="")
    for pattern in (
        "mysql://user:{}@host/db",
        "postgresql:user:{}@host/db",
        "postgresql://user:{}@host@other/db",
        "postgresql://user:x:{}@host/db",
        "postgresql://user:{}@host/db#x",
        "postgresql://user:{}@[::1/db",
        "sqlite://user:{}@host/db",
    ):
        one, other = refusal(pattern.format(plain)), refusal(pattern.format("other"))
        assert (one.message, one.hint) == (other.message, other.hint)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_an_address_or_refused_and_nothing_worse(url: str) -> None:
    found = parsed_or_refused(url)
    if not isinstance(found, KeyctlError):
        assert found.display


@given(
    st.sampled_from(["", "sqlite:", "sqlite:///", "postgres://", "postgresql://", "postgresql+psycopg://", "mysql://"]),
    st.text("~user:pw@host/[]db?=&#%0A\u2100\\ .\0\n", max_size=30),
)
def test_any_text_near_a_url_is_an_address_or_refused_and_nothing_worse(start: str, rest: str) -> None:
    found = parsed_or_refused(start + rest)
    if isinstance(found, PostgreSQLAddress):
        assert start.startswith("postgres")

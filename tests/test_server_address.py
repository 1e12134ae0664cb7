"""A server's URL → a value that can be shown. Promise 1: whatever is wrong with it, no message repeats it."""

import pytest

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import generate
from alphalens_keyctl.server_address import ServerAddress, is_server_url, parse_server


@pytest.mark.parametrize(
    ("text", "host", "port", "path", "tls"),
    [
        ("https://keys.example", "keys.example", 443, "", True),
        ("https://Keys.Example:8443/keyctl/", "keys.example", 8443, "/keyctl", True),
        ("https://[2001:db8::7]/", "2001:db8::7", 443, "", True),
        ("http://127.0.0.1:8378", "127.0.0.1", 8378, "", False),
        ("http://[::1]:8378", "::1", 8378, "", False),
        ("http://localhost", "localhost", 80, "", False),
    ],
)
def test_a_url_says_where_the_server_is(text: str, host: str, port: int, path: str, tls: bool) -> None:
    found = parse_server(text)
    assert (found.host, found.port, found.path, found.tls, found.unix_socket) == (host, port, path, tls, None)


def test_a_unix_socket_is_named_by_its_path() -> None:
    found = parse_server("unix:/run/alphalens-keyctl/api")
    assert (str(found.unix_socket), found.display) == ("/run/alphalens-keyctl/api", "unix:/run/alphalens-keyctl/api")


WRONG = {
    "nothing": "", "no scheme": "keys.example", "a database": "postgresql://keys.example/keys",
    "no host": "https:///keys", "a user": "https://me:secret@keys.example", "a query": "https://keys.example?secret",
    "a fragment": "https://keys.example#secret", "a port that is none": "https://keys.example:secret",
    "a port out of range": "https://keys.example:99999", "a blank": "https://keys example",
    "a line's end": "https://keys.example/\r\nX: secret", "http to another machine": "http://keys.example",
    "http to a name that only looks like this machine": "http://localhost.example", "a relative socket": "unix:api",
    "a letter that is none": "https://keys.ex\u0430mple", "half an address": "http://[::1",
    "a raw key": f"https://keys.example/{generate().reveal()}",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_url_of_a_server_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(KeyctlError) as caught:
        parse_server(text)
    assert caught.value.code is Code.CONFIGURATION
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
    assert len(text) < 12 or text not in f"{caught.value.message} {caught.value.hint}"


def test_http_to_another_machine_takes_an_option() -> None:
    assert parse_server("http://keys.example", plaintext=True) == ServerAddress(
        "http://keys.example", "keys.example", 80
    )


def test_a_database_is_told_from_a_server() -> None:
    urls = ("https://x", "HTTP://x", "unix:/x", "postgresql://x", "sqlite:///x", "/x/https:", "keys.db")
    assert [is_server_url(url) for url in urls] == [True, True, True, False, False, False, False]

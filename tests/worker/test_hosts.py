"""Who may be called, and who gets a key."""

import pytest
from flywheel_pl.judges.hosts import AllowedHosts, key_of, origin_of, secrets, why_no_key

ALLOWED = AllowedHosts.parse(
    ["api.example.com", "exact.example.com:8443", "http://plain.example.com", "127.0.0.1", "[::1]"]
)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.example.com/v1",
        "https://API.example.com:9999/v1/",
        "https://exact.example.com:8443",
        "http://plain.example.com/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
    ],
)
def test_a_named_host_may_be_called(base_url: str) -> None:
    assert ALLOWED.why_refused(base_url) is None


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("https://other.example.com/v1", "the host other.example.com:443 is not allowed"),
        ("https://sub.api.example.com/v1", "not allowed"),
        ("https://api.example.com.evil.example/v1", "not allowed"),
        ("https://exact.example.com/v1", "not allowed"),
        ("https://plain.example.com/v1", "not allowed"),
        ("http://localhost:8000/v1", "not allowed"),
        ("http://api.example.com/v1", "without TLS"),
    ],
)
def test_every_other_host_is_refused(base_url: str, words: str) -> None:
    assert words in (ALLOWED.why_refused(base_url) or "")


@pytest.mark.parametrize(
    "base_url",
    [
        "https://user:pass@api.example.com/v1",
        "https://api.example.com@evil.example/v1",
        "https://evil.example\\@api.example.com/v1",
        "https://api.example.com\\.evil.example/v1",
        "https://api.example.com/v1?key=1",
        "https://api.example.com/v1#x",
        "https://api.example.com /v1",
        "https://api.example.com\n/v1",
        "https://api.example.com:99999/v1",
        "https://api.example.com:/v1",
        "https:///v1",
        "https://api.ex\u0430mple.com/v1",
        "ftp://api.example.com/v1",
        "file:///etc/passwd",
        "api.example.com/v1",
        "",
    ],
)
def test_an_url_that_two_could_read_differently_is_refused(base_url: str) -> None:
    assert origin_of(base_url) is None
    assert "its base_url is not" in (ALLOWED.why_refused(base_url) or "")


def test_without_a_list_nobody_is_called() -> None:
    assert AllowedHosts().why_refused("http://127.0.0.1:1/v1") is not None


@pytest.mark.parametrize(
    "entry", ["*", "*.example.com", "https://a/v1", "u@a", "a:0", "a:x", "a b"]
)
def test_an_entry_that_is_no_host_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        AllowedHosts.parse([entry])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FLYWHEEL_KEY_NONE", "is not set"),
        ("FLYWHEEL_KEY_EMPTY", "is not set"),
        ("FLYWHEEL_KEY_LINES", "characters"),
        ("PGPASSWORD", "does not start with FLYWHEEL_KEY_"),
        ("FLYWHEEL_KEY_", "does not start with FLYWHEEL_KEY_"),
    ],
)
def test_only_keys_made_for_it_are_given(name: str, words: str) -> None:
    environ = {
        "PGPASSWORD": "s3cret", "FLYWHEEL_KEY_EMPTY": " ", "FLYWHEEL_KEY_LINES": "a\r\nX-Evil: 1",
    }  # fmt: skip
    assert words in (why_no_key(name, environ) or "")
    assert key_of(name, environ) is None


def test_a_key_is_given_without_the_newline_of_its_file() -> None:
    assert key_of("FLYWHEEL_KEY_A", {"FLYWHEEL_KEY_A": "sk-1\n"}) == "sk-1"
    assert key_of(None, {}) is None
    assert why_no_key(None, {}) is None


def test_words_such_as_none_are_no_secrets() -> None:
    environ = {"FLYWHEEL_KEY_A": "none", "FLYWHEEL_KEY_B": "sk-0123456789", "OTHER": "x" * 20}
    assert secrets(environ) == ("sk-0123456789",)

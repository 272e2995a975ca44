"""What is personal or secret in a text, and what only looks so."""

from itertools import pairwise
from typing import Any

import pytest
from flywheel_pl.checks import _accounts, sensitive_information
from hypothesis import given
from hypothesis import strategies as st

CARD = "4111 1111 1111 1111"
# In two parts, or the scanners of code hosts take it for a real one.
GITHUB_TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
STRIPE_KEY = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"


def check(text: str, **params: object) -> dict[str, Any]:
    return sensitive_information.prepare({**sensitive_information.DEFAULTS, **params})(text)


def kinds(text: str) -> list[str]:
    return [kind for kind, _, _ in sensitive_information.find(text)]


def with_luhn_digit(digits: str) -> str:
    return next(digits + last for last in "0123456789" if _accounts.luhn(digits + last))


def with_iban_digits(country: str, account: str) -> str:
    rest = int("".join(str(int(char, 36)) for char in account + country + "00")) % 97
    return f"{country}{98 - rest:02}{account}"


@given(st.text("0123456789", min_size=15, max_size=15), st.integers(1, 15), st.integers(1, 9))
def test_luhn_finds_any_wrong_digit(start: str, place: int, by: int) -> None:
    number = with_luhn_digit(start)
    wrong = number[:place] + str((int(number[place]) + by) % 10) + number[place + 1 :]
    assert _accounts.luhn(number)
    assert not _accounts.luhn(wrong)


@given(st.text("0123456789", min_size=18, max_size=18), st.integers(0, 17), st.integers(1, 9))
def test_an_iban_with_a_wrong_digit_is_none(account: str, place: int, by: int) -> None:
    iban = with_iban_digits("DE", account)
    at = place + 4
    wrong = iban[:at] + str((int(iban[at]) + by) % 10) + iban[at + 1 :]
    assert kinds(f"pay to {iban}.") == ["iban"]
    assert not _accounts.is_iban(wrong)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    for _, start, end in sensitive_information.find(text):
        assert 0 <= start < end <= len(text)


@given(st.text("0123456789+-(). \nx@:/abcdefAKIA", max_size=200))
def test_finds_never_overlap(text: str) -> None:
    found = sensitive_information.find(text)
    assert all(before[2] <= after[1] for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"my card is {CARD}, thanks", "credit_card"),
        ("3782-822463-10005", "credit_card"),
        ("30569309025904", "credit_card"),
        ("3530111333300000", "credit_card"),
        ("6759649826438453", "credit_card"),
        ("GB82 WEST 1234 5698 7654 32", "iban"),
        ("nl91abna0417164300", "iban"),
        ("my social: 536-90-4399", "us_ssn"),
        ("SSN 536904399", "us_ssn"),
        ("write to anna.smith+shop@mail.example.co.uk.", "email"),
        ("the host 192.168.20.7 is down", "ip_address"),
        ("from 10.12.129.54:8080", "ip_address"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "ip_address"),
        ("fe80::1ff:fe23:4567:890a", "ip_address"),
        ("+44 20 7946 0958", "phone"),
        ("+49 (0)30 901820", "phone"),
        ("(212) 555-0187", "phone"),
        ("212.555.0187 x12", "phone"),
        ("1-800-829-1040", "phone"),
        ("01 42 68 53 00", "phone"),
        ("0041 44 668 18 00", "phone"),
        ("call me at 555-0187", "phone"),
        ("call me at 600 123 456", "phone"),
        ("4567 8901 is my cell", "phone"),
        ("Tel: 9498777106", "phone"),
        ("6312 4455 (office)", "phone"),
        ("電話 6312-4455", "phone"),
        (GITHUB_TOKEN, "secret"),
        (STRIPE_KEY, "secret"),
        ("AKIA" + "IOSFODNN7EXAMPLE", "secret"),
        ("sk-ant-api03-" + "x7Qf9ZkT2mVb4LpW8sRd", "secret"),
        ('api_key = "9f8a7b6c5d4e3f2a1b0c"', "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "secret"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dBjftJeZ4CVPmB92K27u", "secret"),
    ],
)
def test_each_kind_is_found(text: str, kind: str) -> None:
    assert kinds(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "on 2024-03-15 at 10:30:00, or 15.03.2024 or 03/15/2024",
        "call me on 2024-03-15",
        "office hours 09.00 - 17.00",
        "model 330-220-1100",
        "mobile apps grew by 1 200 000",
        "call function f(1234567890)",
        "the network 192.168.1.0/24",
        "from 1990-2024, 1 000 000 people paid $1,234,567.89",
        "order 1234567890 and invoice number 555-0187",
        "3.14159265358979 and 0.000012345678",
        "ZIP 94103-1234, version 1.2.3.4, v10.20.30.40",
        "at 12:34:56 std::vector and a::b",
        "4111 1111 1111 1112",
        "000-12-3456 and 666-12-3456",
        "127.0.0.1, 0.0.0.0, 255.255.255.0, 999.1.1.1",
        "password = your_password_here, api_key=os.environ['KEY_12345678901']",
        "10 20 30 40 50 60 70",
        "the token is very important to us",
    ],
)
def test_what_only_looks_like_it_is_not_found(text: str) -> None:
    assert kinds(text) == []


@pytest.mark.parametrize(
    "value",
    [CARD, "GB82 WEST 1234 5698 7654 32", "536-90-4399", "anna@example.com", "+44 20 7946 0958",
     "192.168.20.7", GITHUB_TOKEN],
)  # fmt: skip
def test_the_reason_masks_what_it_names(value: str) -> None:
    verdict = check(f"it is {value}")
    assert verdict["passed"] is False
    assert "at character 7" in verdict["reason"]
    assert value not in verdict["reason"]


def test_only_the_wanted_kinds_count() -> None:
    text = f"{CARD} and anna@example.com"
    assert check(text, kinds=["email"])["details"] == {"found": {"email": 1}}
    assert check(CARD, kinds=["phone"]) == {"passed": True, "score": 0}


def test_allowed_values_are_ignored() -> None:
    assert check("write to help@example.com", allow=["help@example.com"])["passed"] is True


def test_many_finds_are_summed_up() -> None:
    verdict = check(" ".join(f"user{n}@example.com" for n in range(9)))
    assert verdict["score"] == 9
    assert verdict["reason"].endswith(", 6 more")


@pytest.mark.parametrize(
    ("params", "named"),
    [({"kinds": "email"}, "kinds"), ({"kinds": ["emails"]}, "kinds"), ({"kinds": []}, "kinds"),
     ({"allow": [1]}, "allow"), ({"allow": None}, "allow")],
)  # fmt: skip
def test_wrong_parameters_are_named(params: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check("", **params)

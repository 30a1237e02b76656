"""discovery.tokens: names, roles, and the entries of http.tokens."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from discovery import names
from discovery.errors import InvalidField
from discovery.tokens import ANYONE, Grant, Role, Stored, configured, hashed, pattern, patterns, read

APEX = names.from_text("discovery.internal.")


def grant(*texts: str) -> Grant:
    return Grant(id="1", name="n", role=Role.REGISTER, names=tuple(pattern(text, APEX) for text in texts))


@pytest.mark.parametrize(
    ("text", "written", "allowed"),
    [
        ("web.prod", "web.prod.discovery.internal.", True),
        ("web.prod", "i1.web.prod.discovery.internal.", True),
        ("web.prod", "a.b.web.prod.discovery.internal.", True),
        ("WEB.Prod", "i1.web.prod.discovery.internal.", True),
        ("web.prod", "prod.discovery.internal.", False),
        ("web.prod", "i1.db.prod.discovery.internal.", False),
        ("web.prod", "i1.xweb.prod.discovery.internal.", False),
        ("web.prod", "web.prod.other.test.", False),
        ("*.prod", "i1.db.prod.discovery.internal.", True),
        ("*.prod", "prod.discovery.internal.", False),
        ("web.*", "i1.web.stage.discovery.internal.", True),
        ("web.*", "i1.db.stage.discovery.internal.", False),
        ("@", "x.discovery.internal.", True),
        ("@", "x.other.test.", False),
        ("web.other.test.", "i1.web.other.test.", True),
        (".", "1.0.0.127.in-addr.arpa.", True),
    ],
)
def test_a_name_stands_for_all_at_or_below_it(text: str, written: str, allowed: bool) -> None:
    assert grant(text).may_write(names.from_text(written)) is allowed


def test_only_the_name_of_all_names_writes_all() -> None:
    assert grant(".").writes_all
    assert ANYONE.writes_all
    assert not grant("@").writes_all
    assert not Grant(id="1", name="n", role=Role.READ).may_write(names.from_text("x."))


@pytest.mark.parametrize("text", ["", "..", "web..prod", "any.prod", "tag", "-x", "w*b", "a" * 64, "ü"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        pattern(text, APEX)
    assert caught.value.field == "names"


def test_only_and_always_the_role_register_has_names() -> None:
    with pytest.raises(InvalidField, match="needs the names"):
        patterns("register", (), APEX)
    with pytest.raises(InvalidField, match="leave them out for read"):
        patterns("read", ("web",), APEX)
    with pytest.raises(InvalidField, match="at most 100"):
        patterns("register", [f"n{number}" for number in range(101)], APEX)


def test_the_entries_of_the_configuration() -> None:
    digest = hashlib.sha256(b"hidden").hexdigest()
    found = configured(
        [
            "plain-token-of-an-operator",
            "read looking",
            "register web.prod,*.stage serving",
            f"operate sha256:{digest.upper()}",
            "register @ cert:agent.example",
        ],
        APEX,
    )
    by_token = {token: found.tokens[hashed(token)] for token in ("looking", "serving", "hidden")}
    assert found.tokens[hashed("plain-token-of-an-operator")].role is Role.OPERATE
    assert by_token["looking"].role is Role.READ
    assert [names.to_text(path) for path in by_token["serving"].names] == [
        "web.prod.discovery.internal.",
        "*.stage.discovery.internal.",
    ]
    assert by_token["hidden"].id == "http.tokens[3]"
    assert found.certificates["agent.example"].names == (APEX,)
    assert found.certificates["agent.example"].name == "agent.example"
    assert not configured([], APEX).any


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "  ",
        "write s3cret",
        "read web s3cret",
        "register s3cret",
        "register web..prod s3cret",
        "operate a b s3cret",
        "sha256:s3cret",
        "cert:",
        "s3cr€t",
    ],
)
def test_a_wrong_entry_is_told_without_its_token(entry: str) -> None:
    with pytest.raises(ValueError, match="entry 2") as caught:
        configured(["read fine", entry], APEX)
    assert "s3cr" not in str(caught.value)


def test_a_stored_token_is_read_back() -> None:
    stored = Stored(
        name="web", role="register", names=("web.prod.discovery.internal.",), hash=hashed("t"), created_at=1
    )
    digest, found = read(b"/discovery/tokens/abc", msgspec.json.encode(stored))
    assert digest == hashed("t")
    assert found.id == "abc"
    assert found.may_write(names.from_text("i1.web.prod.discovery.internal."))


@pytest.mark.parametrize(
    "change", [{"hash": "x"}, {"names": ()}, {"names": ("..",)}, {"role": "root"}, {"created_at": "now"}]
)
def test_an_unreadable_stored_token_grants_nothing(change: dict[str, object]) -> None:
    stored = {"name": "web", "role": "register", "names": ["web."], "hash": hashed("t"), "created_at": 1}
    with pytest.raises(ValueError):
        read(b"/discovery/tokens/abc", msgspec.json.encode(stored | change))

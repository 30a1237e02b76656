"""The table of settings: complete, described, marked."""

from __future__ import annotations

from typing import Literal

import msgspec

from discovery.settings import TABLE, Config, Section, Setting, expected


def test_every_leaf_of_the_structs_is_in_the_table() -> None:
    def leaves(value: msgspec.Struct, lead: str) -> list[str]:
        out = []
        for name in value.__struct_fields__:
            inner = getattr(value, name)
            out += leaves(inner, f"{lead}{name}.") if isinstance(inner, msgspec.Struct) else [lead + name]
        return out

    assert [setting.key for setting in TABLE.settings()] == leaves(Config(), "")


def test_every_setting_and_section_is_described_in_sentences() -> None:
    def walk(member: Setting | Section) -> None:
        if member is not TABLE:
            assert member.description.endswith("."), member.key
        inner = member.items if isinstance(member, Setting) else member
        for below in inner.members.values() if inner is not None else ():
            walk(below)

    walk(TABLE)


def test_marks_are_inherited_from_the_section() -> None:
    marks = {setting.key: setting.marks for setting in TABLE.settings()}
    assert {key for key, found in marks.items() if "reload" in found} == {
        "dns.allow",
        "dns.deny",
        "dns.rrl.answers",
        "dns.rrl.errors",
        "dns.rrl.negatives",
        "dns.tls.cert",
        "dns.tls.key",
        "http.tokens",
        "http.audit",
        "http.max_connections",
        "http.max_connections_per_client",
        "http.rate",
        "http.tls.cert",
        "http.tls.key",
        "http.tls.client_ca",
        "log.level",
        "log.format",
        "log.queries",
    }
    assert {key for key, found in marks.items() if "secret" in found} == {
        "http.tokens",
        "store.etcd.password",
    }


def test_types_in_words() -> None:
    assert expected(int | None) == "text"  # a shape no setting has
    assert expected(Literal["b", "a"]) == "one of b, a"
    assert expected(tuple[str, ...]) == "a list of text"
    assert expected(dict[str, tuple[str, ...]]) == "a mapping of names to a list of text"

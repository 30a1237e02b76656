"""What the API lets through can be read again, whatever it is."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery import service
from discovery.api.bodies import InstanceBody, heartbeat_every
from discovery.api.fields import lease_id, to_service
from discovery.errors import InvalidField

PORT = st.integers(0, 65535)
LABEL = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=9)
BODIES = st.builds(
    InstanceBody,
    host=st.one_of(
        st.ip_addresses().map(str),
        st.lists(LABEL, max_size=5).map(".".join),
        st.text(),
        st.just("::ffff:1.2.3.4"),
    ),
    port=PORT,
    priority=PORT,
    weight=PORT,
    text=st.text(),
    mail=st.booleans(),
    ttl=st.integers(0, 2147483647),
    targetstrip=st.integers(-2147483647, 2147483647),
    group=st.one_of(LABEL, st.just("")),
    ports=st.dictionaries(
        st.builds("".join, st.tuples(LABEL, st.sampled_from(["", "/tcp", "/udp"]))), PORT, max_size=4
    ),
    tags=st.lists(LABEL, max_size=4),
    meta=st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=99), max_size=4),
)


@settings(max_examples=40, deadline=None)
@given(BODIES)
def test_what_passes_is_read_as_it_was_written(body: InstanceBody) -> None:
    refused: str | None = ""
    try:
        made = to_service(body, None)
    except InvalidField as error:
        refused = error.field
    else:
        assert service.read(service.write(made)) == made
    assert not refused or refused in InstanceBody.__struct_fields__


@settings(max_examples=40, deadline=None)
@given(st.integers(250, 262), st.integers(230, 250), st.integers(59_990, 60_010))
def test_what_passes_at_the_limits_is_read_as_it_was_written(keys: int, length: int, size: int) -> None:
    meta = {f"k{number:03}": "x" * length for number in range(keys)}
    refused: str | None = ""
    try:
        made = to_service(InstanceBody(host="", text="t" * size, meta=meta), None)
    except InvalidField as error:
        refused = error.field
    else:
        assert service.read(service.write(made)) == made
    too_much_meta = keys * (length + 6) > 65_535
    assert refused == ("text" if size > 60_000 else "meta" if too_much_meta else "")


def test_what_could_not_be_read_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where no check of its own has foreseen it."""
    monkeypatch.setattr(service, "MAX_RDATA", 100)
    with pytest.raises(InvalidField, match="could not be read back: text is longer") as refused:
        to_service(InstanceBody(host="", text="t" * 200), None)
    assert refused.value.field == "text"


@pytest.mark.parametrize(
    ("caller", "host"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("fe80::1%eth0", None),
        (None, None),
    ],
)
def test_the_callers_address(caller: str | None, host: str | None) -> None:
    if host is not None:
        assert to_service(InstanceBody(), caller).host == host
    else:
        with pytest.raises(InvalidField, match="set host"):
            to_service(InstanceBody(), caller)


def test_lease_ids() -> None:
    assert lease_id("0ABC") == lease_id("0000000000000abc") == 0xABC
    assert lease_id("7fffffffffffffff") == (1 << 63) - 1


def test_a_heartbeat_is_due_three_times_a_ttl_in_whole_seconds() -> None:
    assert [heartbeat_every(ttl) for ttl in (1, 2, 3, 10, 30)] == [0.33, 0.67, 1, 3, 10]
    assert heartbeat_every(0) is None
    assert heartbeat_every(None) is None

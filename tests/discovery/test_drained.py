"""The drained instances that a node knows, of its own and of others."""

from __future__ import annotations

from pathlib import Path

from discovery import drained
from discovery.kv.contract import KV
from tests.support.api import running_parts, until

PATH = (b"internal", b"discovery", b"web", b"i1")
KEY = b"/discovery/drained/skydns/internal/discovery/web/i1"


async def test_what_another_node_drains_is_followed(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.store.put(KEY, drained.write(1.5, b'{"host":"10.0.0.1"}'))
        await until(lambda: parts.drained.find(PATH) is not None)
        found = parts.drained.find(PATH)
        assert found is not None
        assert found.at == 1.5
        assert found.record.fields is not None
        assert found.record.fields.host == "10.0.0.1"
        assert found.original.key == b"/skydns/internal/discovery/web/i1"
        assert [each.at for each in parts.drained.below(PATH[:-1], direct=True)] == [1.5]
        assert not list(parts.drained.below(PATH[:-2], direct=True))
        await parts.store.delete(KEY)
        await until(lambda: len(parts.drained) == 0)


async def test_what_is_no_drained_instance_is_left_out(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        await parts.store.put(KEY, b"[]")
        await parts.store.put(b"/discovery/drained/skydns/a//b", drained.write(1, b"{}"))
        await parts.store.put(KEY + b"2", drained.write(2, b"{}"))
        await until(lambda: len(parts.drained) == 1)
        assert parts.drained.find(PATH) is None


async def test_older_word_never_wins(tmp_path: Path) -> None:
    async with running_parts(tmp_path) as parts:
        new = KV(KEY, drained.write(2, b"{}"), 100, 100, 1)
        parts.drained.put(new)
        parts.drained.put(KV(KEY, drained.write(1, b"{}"), 50, 50, 1))
        parts.drained.remove(KEY, 99)
        found = parts.drained.find(PATH)
        assert found is not None
        assert found.at == 2
        parts.drained.remove(b"/discovery/drained/skydns/internal/discovery/web/I1", 200)  # another key
        assert parts.drained.find(PATH) is found
        parts.drained.remove(KEY, 100)
        assert parts.drained.find(PATH) is None

"""What a stream is given, and what it must ask for: all of it, in order, once."""

from __future__ import annotations

import asyncio

import pytest

from discovery.api import topics
from discovery.api.topics import Reader, Topic


class Stream:
    """`told` is all that it was told; while it is not `open` it takes nothing that it is given."""

    def __init__(self, topic: Topic, *, in_chunks: bool = True) -> None:
        self.open = True
        self.given = 0
        self.told = b""
        self.ended = False
        self.reader: Reader = topic.reader(topic.join(), self._send if in_chunks else None)
        self.task = asyncio.create_task(self._follow())

    def _send(self, chunk: bytes) -> bool:
        if not self.open:
            return False
        size, _, piece = chunk.partition(b"\r\n")
        assert piece[-2:] == b"\r\n"
        assert int(size, 16) == len(piece) - 2
        self.told += piece[:-2]
        self.given += 1
        return True

    async def _follow(self) -> None:
        while (piece := await self.reader.next()) is not None:
            self.told += piece
        self.ended = True


async def tell(topic: Topic, *lines: bytes) -> None:
    """Each as a piece of its own, all in one turn of the loop; then streams that were woken have had theirs."""
    for line in lines:
        topic.add(line)
        topic.join()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_piece_is_given_at_once_to_whoever_takes_it() -> None:
    topic = Topic("ndjson")
    chunked, plain = Stream(topic), Stream(topic, in_chunks=False)
    await asyncio.sleep(0)
    await tell(topic, b"a", b"b")
    assert (chunked.told, chunked.given) == (b"ab", 2)
    assert (plain.told, plain.given) == (b"ab", 0)
    topic.close()
    await asyncio.gather(chunked.task, plain.task)


async def test_who_cannot_take_a_piece_gets_it_before_any_later_one() -> None:
    topic = Topic("ndjson")
    stream = Stream(topic)
    await asyncio.sleep(0)
    await tell(topic, b"a")
    stream.open = False
    topic.add(b"b")
    topic.join()
    stream.open = True  # which comes too late: it is woken for the second
    await tell(topic, b"c", b"d")
    assert (stream.told, stream.given) == (b"abcd", 1)
    await tell(topic, b"e")
    assert (stream.told, stream.given) == (b"abcde", 2)
    topic.close()
    await stream.task


async def test_who_falls_out_of_the_ring_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "RING_BYTES", 2)
    topic = Topic("ndjson")
    slow, quick = Stream(topic), Stream(topic)
    await asyncio.sleep(0)
    slow.open = False
    await tell(topic, b"a", b"b", b"c")
    assert (slow.told, slow.ended) == (b"", True)
    assert quick.told == b"abc"
    topic.close()
    await quick.task


async def test_a_stream_that_is_gone_is_given_nothing() -> None:
    topic = Topic("ndjson")
    stream = Stream(topic)
    await asyncio.sleep(0)
    stream.task.cancel()
    await asyncio.gather(stream.task, return_exceptions=True)
    await tell(topic, b"a")
    assert stream.told == b""
    topic.close()

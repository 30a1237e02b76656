"""Ranges of any size, read page by page.

Owns how large a page is and that all pages of one answer are of one revision: the first page's, which every further
one asks for. A page that is over gRPC's limit is asked for again at half its size. When that revision is compacted
in the middle, the read begins anew.
"""

from __future__ import annotations

from discovery.kv import etcd_wire_pb2 as wire
from discovery.kv.contract import KV, Compacted, RangeResult, Unavailable
from discovery.kv.etcd_endpoints import MAX_ANSWER, RANGE, Endpoints
from discovery.kv.etcd_errors import TooLarge
from discovery.kv.etcd_history import History

PAGE = 50_000  # keys; about 10 MB of small services
ATTEMPTS = 3  # of a read whose revision is compacted before it is done


async def read_range(endpoints: Endpoints, history: History, request: wire.RangeRequest) -> RangeResult:
    """All that `request` asks for, up to its limit (0: all). Raises what a call raises."""
    for _ in range(ATTEMPTS):
        try:
            return await _read(endpoints, history, request)
        except Compacted:
            continue
    raise Unavailable("the store is compacted faster than it can be read: try again")


async def _read(endpoints: Endpoints, history: History, request: wire.RangeRequest) -> RangeResult:
    page = wire.RangeRequest()
    page.CopyFrom(request)
    kvs: list[KV] = []
    size = PAGE
    revision = 0
    while True:
        left = request.limit - len(kvs) if request.limit else size
        page.limit = min(size, left)
        try:
            found = await endpoints.call(RANGE, page, repeatable=True, leader=not page.serializable)
        except TooLarge as error:
            if size == 1:
                raise Unavailable(f"a single value is over {MAX_ANSWER} bytes: {error.detail}") from None
            size = max(1, page.limit // 2)
            continue
        codec = await history.codec_of(found.header)
        kvs += codec.kvs(found.kvs)
        if not page.revision:
            revision, page.revision = codec.raised(found.header.revision), found.header.revision
        if not found.more or len(kvs) == request.limit:
            return RangeResult(revision, kvs, found.more, history.name)
        page.key = found.kvs[-1].key + b"\0"

"""What the main process and its workers say to each other, as bytes.

Owns the messages (`Told` to a worker, `Said` by it), their encoding and their framing: four bytes of length, then
msgpack. A worker counts what it is told, and its acknowledgement names the count, so messages carry no number. All
that the main view is told is one message each; a fresh worker is told `SetUp`, the records as they are, `Loaded`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from discovery.dns.cookies import Secret
from discovery.kv.contract import Event
from discovery.names import Path
from discovery.settings import Config, HttpConfig, StoreConfig
from discovery.tree import Copy
from discovery.view import LiveNodes, Standing

HEADER = 4
MAX_FRAME = 1 << 28  # bytes; a longer one is no frame of ours


class Handed(msgspec.Struct, array_like=True, frozen=True):
    """File numbers of sockets: a worker's own for UDP, those of a few other workers, all workers' for TCP and TLS."""

    udp: Sequence[int]
    neighbours: Sequence[int]
    tcp: Sequence[int]
    tls: Sequence[int]


class SetUp(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The first message. `local_addresses`: this machine's, as `dns_settings` wants them."""

    config: Config
    host_name: str
    local_addresses: Sequence[str]
    handed: Handed


class CookieKeys(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The secrets of DNS cookies from now on."""

    secrets: Sequence[Secret]


class Certificate(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What new connections over TLS get from now on, in PEM; empty: there is none."""

    cert: bytes
    key: bytes


class Records(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """A part of what the view holds. What comes between the parts and `Loaded` holds as well, in its order."""

    copies: Sequence[Copy]


class Loaded(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """All records have been told: answer from now on."""

    standing: Standing


class Batch(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """View.apply. `now`: seconds of the main process's monotonic clock, which all processes share."""

    events: Sequence[Event]
    revision: int
    now: float


class Settled(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """View.settle: the batches before were what differed when the view was loaded anew."""

    revision: int


class Sweep(msgspec.Struct, tag=True, array_like=True, frozen=True):
    now: float


class LeaseTtl(msgspec.Struct, tag=True, array_like=True, frozen=True):
    lease: int
    ttl: int


class Nodes(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """View.set_nodes."""

    nodes: LiveNodes


class Epoch(msgspec.Struct, tag=True, array_like=True, frozen=True):
    stale: bool


class Reloaded(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The configuration has been read anew: take over what may change while running."""

    config: Config


class Tick(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Tell the counters with the acknowledgement."""


class Ask(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Whether the answer to that question is kept and holds."""

    number: int
    path: Path
    qtype: int


Told = (
    SetUp
    | CookieKeys
    | Certificate
    | Records
    | Loaded
    | Batch
    | Settled
    | Sweep
    | LeaseTtl
    | Nodes
    | Epoch
    | Reloaded
    | Tick
    | Ask
)


class Ack(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """`count` messages have been taken in; `serving`: questions are answered; `ready`: as the view is.

    `counters`: as DnsCounters.values, when a Tick was among the messages.
    """

    count: int
    serving: bool
    ready: bool
    counters: Sequence[int] | None = None


class Kept(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The answer that Ask `number` asked for is kept."""

    number: int


class Sampled(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Questions that were sampled since the last Tick, as Busiest.take; it comes before the acknowledgement."""

    counts: Sequence[tuple[bytes, int]]


Said = Ack | Kept | Sampled

_ENCODER = msgspec.msgpack.Encoder(enc_hook=dict)  # what msgspec does not know here are read-only mappings
_TOLD: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)
_SAID: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)


def frame(message: Told | Said) -> bytes:
    """The bytes to send. Raises ValueError for one that is longer than MAX_FRAME."""
    content = _ENCODER.encode(message)
    if len(content) > MAX_FRAME:
        raise ValueError(f"a message of {len(content)} bytes is too long")
    return len(content).to_bytes(HEADER, "big") + content


def told(content: bytes) -> Told:
    """Raises msgspec.DecodeError."""
    return _TOLD.decode(content)


def said(content: bytes) -> Said:
    """Raises msgspec.DecodeError."""
    return _SAID.decode(content)


class Frames:
    """Cuts a stream of bytes, split anywhere, into the contents of its frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[bytes]:
        """What is whole by now. Raises ValueError when the stream is none of ours."""
        received = self._rest + received if self._rest else received
        at, size = 0, len(received)
        try:
            while at + HEADER <= size:
                length = int.from_bytes(received[at : at + HEADER], "big")
                if length > MAX_FRAME:
                    raise ValueError(f"a frame of {length} bytes is too long")
                end = at + HEADER + length
                if end > size:
                    break
                content = received[at + HEADER : end]
                at = end
                yield content
        finally:
            self._rest = received[at:]


def for_workers(config: Config) -> Config:
    """The configuration without what workers, which strangers talk to, need not know: secrets and the store."""
    store = StoreConfig(prefix=config.store.prefix)
    return msgspec.structs.replace(config, http=HttpConfig(), store=store)

from collections.abc import Callable, Mapping

from discovery.dns.source import Branch

class Hits:
    def __init__(
        self,
        raw: Mapping[bytes, object],
        prepared: Mapping[bytes, object],
        epoch: Branch,
        draw: Callable[[], float],
        promote: Callable[..., None],
        counters: object,
        secret: Callable[[], tuple[bytes, int]],
        udp: bool,
        entry: type,
        answer: type,
        body: type,
    ) -> None: ...
    def answer(self, packet: bytes, client: bytes, /) -> bytes | None: ...
    def answer_all(self, packets: list[bytes], clients: list[bytes], /) -> list[bytes | None]: ...

class Datagrams:
    def receive(self, descriptor: int, /) -> tuple[list[bytes], list[bytes]]: ...
    def name(self, number: int, /) -> bytes: ...
    def send(self, descriptor: int, answers: list[bytes | None], /) -> int: ...

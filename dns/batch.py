"""Datagrams by the batch: one system call brings up to SLOTS of them, one sends as many answers.

Owns the memory that the kernel reads and writes, laid out as recvmmsg(2) and sendmmsg(2) want it, and reached through
ctypes, for Python has no names for the two. An answer goes back to the address that its question came from: both calls
share the addresses. It reads no packet and knows no event loop. `_fast` does the same, compiled.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from ctypes import POINTER, Structure, addressof, c_char, c_int, c_size_t, c_uint, c_uint32, c_void_p
from typing import Protocol, cast

SLOTS = 64  # datagrams a call, so that HTTP and leases get their turn within a millisecond
MAX_DATAGRAM = 4096  # bytes in and out; a longer question is cut and so malformed
STRIDE = MAX_DATAGRAM + 64
"""Bytes from slot to slot; a power of two would have all share a few lines of the CPU's cache."""
NAME = 28  # bytes of the largest address, IPv6's
STARTS = range(0, SLOTS * STRIDE, STRIDE)
NAMES = range(0, SLOTS * NAME, NAME)

Client = tuple[str, int] | tuple[str, int, int, int]


class _Part(Structure):  # struct iovec
    _fields_ = (("base", c_void_p), ("length", c_size_t))


class _Header(Structure):  # struct msghdr
    _fields_ = (
        ("name", c_void_p),
        ("name_length", c_uint32),
        ("parts", POINTER(_Part)),
        ("parts_length", c_size_t),
        ("control", c_void_p),
        ("control_length", c_size_t),
        ("flags", c_int),
    )


class _Message(Structure):  # struct mmsghdr
    _fields_ = (("header", _Header), ("length", c_uint))


def _place(family: int) -> tuple[int, int]:
    """Where the address begins and ends in a sockaddr."""
    return (8, 24) if family == socket.AF_INET6 else (4, 8)


def client_of(family: int, name: bytes) -> Client:
    """A sockaddr as the socket module writes it."""
    first, last = _place(family)
    host, port = socket.inet_ntop(family, name[first:last]), int.from_bytes(name[2:4], "big")
    if family == socket.AF_INET6:
        return host, port, 0, int.from_bytes(name[24:28], sys.byteorder)
    return host, port


_libc = ctypes.CDLL(None)
_receive, _send = _libc.recvmmsg, _libc.sendmmsg
_receive.argtypes = (c_int, c_void_p, c_uint, c_int, c_void_p)
_send.argtypes = (c_int, c_void_p, c_uint, c_int)


class Batch(Protocol):
    """For one non-blocking datagram socket of IPv4 or IPv6."""

    def receive(self) -> tuple[list[bytes], list[bytes]]:
        """The datagrams that have come, at most SLOTS, and the addresses that they came from, in 4 or 16 bytes.

        Who sent them stays known until the next call.
        """

    def client(self, number: int) -> Client:
        """Who sent datagram `number` of the last ones, as the socket module writes it."""

    def send(self, answers: list[bytes | None]) -> int:
        """Sends answer n to the sender of datagram n; None: it has no answer. How many the kernel did not take."""


def batch(sock: socket.socket) -> Batch:
    try:
        return CompiledBatch(sock)
    except ImportError:  # it was installed without a C compiler
        return PythonBatch(sock)


class CompiledBatch:
    def __init__(self, sock: socket.socket) -> None:
        from discovery.dns._fast import Datagrams

        self._sock = sock
        self._datagrams = Datagrams()

    def receive(self) -> tuple[list[bytes], list[bytes]]:
        return self._datagrams.receive(self._sock.fileno())

    def client(self, number: int) -> Client:
        return client_of(self._sock.family, self._datagrams.name(number))

    def send(self, answers: list[bytes | None]) -> int:
        return self._datagrams.send(self._sock.fileno(), answers)


class PythonBatch:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._family = sock.family
        self._names = (c_char * (SLOTS * NAME))()
        self._questions, answers = (c_char * (SLOTS * STRIDE))(), (c_char * (SLOTS * STRIDE))()
        self._in, self._out = (_Message * SLOTS)(), (_Message * SLOTS)()
        self._parts = (_Part * SLOTS)(), (_Part * SLOTS)()
        for slot in range(SLOTS):
            for memory, messages, parts in zip(
                (self._questions, answers), (self._in, self._out), self._parts, strict=True
            ):
                parts[slot] = _Part(addressof(memory) + STARTS[slot], MAX_DATAGRAM)
                header = messages[slot].header
                header.name = addressof(self._names) + slot * NAME
                header.name_length = NAME if self._family == socket.AF_INET6 else 16
                header.parts, header.parts_length = ctypes.pointer(parts[slot]), 1
        self._answers = memoryview(answers).cast("B")
        self._answer_lengths = memoryview(self._parts[1]).cast("B").cast("L")[1::2]
        words = memoryview(self._in).cast("B").cast("I")
        self._lengths = words[_Message.length.offset // 4 :: ctypes.sizeof(_Message) // 4]
        self._out_at = [addressof(message) for message in self._out]

    def receive(self) -> tuple[list[bytes], list[bytes]]:
        count = _receive(self._sock.fileno(), self._in, SLOTS, 0, None)
        if count <= 0:  # nothing more, or an ICMP error left on the socket by an earlier answer
            return [], []
        questions, names = cast(bytes, self._questions), cast(bytes, self._names)  # slices of them are bytes
        packets = [
            questions[start : start + length]
            for start, length in zip(STARTS, self._lengths[:count].tolist(), strict=False)
        ]
        first, last = _place(self._family)
        return packets, [names[start + first : start + last] for start in NAMES[:count]]

    def client(self, number: int) -> Client:
        return client_of(self._family, cast(bytes, self._names)[number * NAME : (number + 1) * NAME])

    def send(self, answers: list[bytes | None]) -> int:
        lost = first = 0
        memory, lengths = self._answers, self._answer_lengths
        number = -1
        for number, answer in enumerate(answers):
            if answer is None:
                lost += self._flush(first, number)
                first = number + 1
                continue
            size = len(answer)
            start = STARTS[number]
            memory[start : start + size] = answer
            lengths[number] = size
        return lost + self._flush(first, number + 1)

    def _flush(self, first: int, end: int) -> int:
        lost = 0
        while first < end:
            sent = _send(self._sock.fileno(), self._out_at[first], end - first, 0)
            if sent <= 0:  # a full buffer, an unreachable client, port 0: the first one's loss alone
                lost, sent = lost + 1, 1
            first += sent
        return lost

"""Domain names, their labels, and the store's keys.

Owns the one mapping between the three. A name is a `Path`: its labels as bytes from the root down, A-Z folded,
so `1.rails.skydns.local.` is `(b"local", b"skydns", b"rails", b"1")`, the key `/skydns/local/skydns/rails/1`
(prefix `/skydns`), and everything below a name is everything that begins with its path.
Text is for people and configuration (RFC 1035 section 5.1 escapes on the way out); it is never parsed on the hot path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from discovery.errors import InvalidField

Path = tuple[bytes, ...]

MAX_LABEL = 63  # RFC 1035 section 2.3.4, bytes
MAX_NAME = 255  # on the wire, with length bytes and the root
RESERVED_LABELS = frozenset({"*", "any", "tag"})  # they steer questions, so they never name a service
WILDCARDS = frozenset({b"*", b"any"})

_API_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_HOST_LABEL = re.compile(rb"[a-z0-9_-]+\Z")
_PLAIN_NAME = re.compile(rb"[a-zA-Z0-9_*/.-]+\Z")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/")


def wire_length(path: Path) -> int:
    """Bytes of the name on the wire, uncompressed, with the root."""
    return len(b".".join(path)) + 2 if path else 1


def is_name(path: Path) -> bool:
    """Whether the labels make a legal domain name: none empty or over 63 bytes, 255 bytes in all."""
    return all(0 < len(label) <= MAX_LABEL for label in path) and wire_length(path) <= MAX_NAME


def to_text(path: Path) -> str:
    """The name as a master file writes it, with the final dot; unusual bytes as `\\.` or `\\DDD`."""
    if not path:
        return "."
    text = b".".join((*reversed(path), b""))
    if _PLAIN_NAME.match(text) and text.count(b".") == len(path):
        return text.decode()
    out = []
    for label in reversed(path):
        for byte in label:
            if byte in _PLAIN:
                out.append(chr(byte))
            elif 0x21 <= byte <= 0x7E:
                out.append("\\" + chr(byte))
            else:
                out.append(f"\\{byte:03d}")
        out.append(".")
    return "".join(out)


def from_text(text: str) -> Path:
    """A plain name (no escapes), with or without the final dot, folded. Raises ValueError when it is none."""
    bare = text.removesuffix(".").encode().lower()  # as bytes only A-Z fold
    path = tuple(reversed(bare.split(b"."))) if bare else ()
    if text in ("", "..") or not is_name(path):
        raise ValueError(f"{text!r} is not a domain name")
    return path


def host_path(host: str) -> Path:
    """A service's `host` that is a name: labels of letters, digits, `-`, `_` or a lone `*`, the last not all digits.

    Raises ValueError when it is none.
    """
    path = from_text(host)
    if not path or path[0].isdigit():
        raise ValueError(f"{host!r} is neither an address nor a host name")
    for label in path:
        if label != b"*" and not _HOST_LABEL.match(label):
            raise ValueError(f"{host!r} is neither an address nor a host name")
    return path


def key_of(path: Path, prefix: str) -> bytes:
    """The store's key of a name; `prefix` without a final slash."""
    return b"/".join((prefix.encode(), *path))


@lru_cache(maxsize=1024)  # each change is looked at by several in turn
def path_of(key: bytes, prefix: str) -> Path | None:
    """The name that a key stands for; None when it stands for none (an empty or over-long part, another prefix)."""
    lead = prefix.encode() + b"/"
    if not key.startswith(lead):
        return None
    rest = key[len(lead) :].lower()
    path = tuple(rest.split(b"/"))
    return path if b"" not in path and (len(rest) <= MAX_LABEL or is_name(path)) else None


def key_order(key: bytes, path: Path) -> tuple[Path, bytes]:
    """Sorts a key before those below it, else label by label from the zone down as lower-case bytes."""
    return path, key


def reverse_path(address: bytes) -> Path:
    """The name that a PTR question for the address asks: octets under in-addr.arpa, nibbles under ip6.arpa."""
    if len(address) == 4:
        return (b"arpa", b"in-addr", *(b"%d" % octet for octet in address))
    return (b"arpa", b"ip6", *(b"%x" % nibble for octet in address for nibble in (octet >> 4, octet & 15)))


# ---------------------------------------------------------------- names in the HTTP API


def check_label(text: str, field: str) -> bytes:
    """One label as the HTTP API takes it, folded. Raises InvalidField, which names `field`."""
    label = text.lower() if text.isascii() else text  # only A-Z fold
    if label in RESERVED_LABELS:
        raise InvalidField(
            f"{field}: {text!r} has a meaning in questions and cannot be a name; choose another", field=field
        )
    if not _API_LABEL.match(label):
        raise InvalidField(
            f"{field}: {text!r} is not a label: 1 to 63 of a-z, 0-9, _ and -, with no - at either end",
            field=field,
        )
    return label.encode()


def service_path(text: str, zones: Iterable[Path]) -> Path:
    """The name of a service in a URL: relative to the first zone, or under any zone with a final dot; `@`: the zone.

    Raises InvalidField for a label that is none and for a name outside every zone.
    """
    # What is too long to be a name is not kept.
    read = _read_service if len(text) > MAX_NAME else _service_path
    return read(text, tuple(zones))


def _read_service(text: str, apexes: tuple[Path, ...]) -> Path:
    if text == "@":
        return apexes[0]
    if not text.endswith("."):
        return apexes[0] + tuple(check_label(part, "service") for part in reversed(text.split(".")))
    labels = tuple(reversed(text[:-1].encode(errors="replace").lower().split(b".")))
    inside = [apex for apex in apexes if labels[: len(apex)] == apex]
    if not inside:
        known = ", ".join(to_text(apex) for apex in apexes)
        raise InvalidField(f"service: {text!r} lies in none of this node's zones ({known})", field="service")
    apex = max(inside, key=len)
    return apex + tuple(check_label(part.decode(), "service") for part in labels[len(apex) :])


_service_path = lru_cache(maxsize=1024)(_read_service)


def service_text(path: Path, zones: Iterable[Path]) -> str:
    """The shortest text that `service_path` reads back: relative in the first zone, else the whole name."""
    return _service_text(path, next(iter(zones)))


@lru_cache(maxsize=1024)
def _service_text(path: Path, first: Path) -> str:
    if path == first:
        return "@"
    if path[: len(first)] == first:
        return ".".join(label.decode("ascii", "backslashreplace") for label in reversed(path[len(first) :]))
    return to_text(path)

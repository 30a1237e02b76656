"""DNS messages on the wire: what a query says, and how names and records are written.

Owns parsing (header verdict, question, EDNS) and encoding of names; bytes in, bytes out. It never decides what
the answer is. `parse` is total over bytes: every packet is a `Query`, perhaps with an `rcode` that says what is wrong
with it, or None when it must not be answered at all. Names compress against the question alone, so that
an encoded record means the same wherever it stands in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from discovery.dns.source import Path

# Types (IANA "DNS Parameters").
A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV, OPT, TSIG = 1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 41, 250
SVCB, HTTPS = 64, 65
IXFR, AXFR, MAILB, MAILA, ANY = 251, 252, 253, 254, 255
IN, CH = 1, 3
# Response codes.
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, NOTAUTH, BADVERS = 0, 1, 2, 3, 4, 5, 9, 16
BADKEY, BADCOOKIE = 17, 23  # the first in a TSIG record (RFC 8945 section 3)
# Header flags.
QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
# Extended errors (RFC 8914).
EDE_STALE_ANSWER, EDE_NOT_READY, EDE_PROHIBITED, EDE_NOT_AUTHORITATIVE, EDE_NO_REACHABLE_AUTHORITY = (
    3,
    14,
    18,
    20,
    22,
)
OPTION_NSID, OPTION_COOKIE, OPTION_PADDING, OPTION_EDE = 3, 10, 12, 15

HEADER_SIZE = 12
MIN_PAYLOAD = 512  # RFC 1035 section 4.2.1; RFC 6891 section 6.2.3: lower values count as 512
QUESTION_POINTER = b"\xc0\x0c"

_HEADER = Struct("!HHHHHH")
_TWO = Struct("!HH")
_FIXED = Struct("!HHIH")


class FormatError(ValueError):
    """The bytes are no DNS message."""


class Edns:
    """What a query's OPT record says (RFC 6891). `cookie`: the content of its first COOKIE option, b"" without."""

    __slots__ = ("cookie", "do", "options", "payload_size", "version")

    def __init__(self, payload_size: int, version: int, do: bool, options: bytes) -> None:
        self.payload_size = payload_size
        self.version = version
        self.do = do
        self.options = options
        self.cookie = b""


class Query:
    """A query as read. `rcode` other than NOERROR: refuse it with that. `name` is the question's name, A-Z folded,
    in wire form; `question` the question's bytes as they came (b"" when there was none to read). `tsig`: the TSIG
    record to answer a signed query with.
    `client`: the 4 or 16 bytes of the address it came from; `option`: the options that are answered to it alone."""

    __slots__ = (
        "client",
        "edns",
        "flags",
        "id",
        "name",
        "option",
        "qclass",
        "qtype",
        "question",
        "rcode",
        "tsig",
    )

    def __init__(self, ident: int, flags: int) -> None:
        self.id = ident
        self.flags = flags
        self.rcode = NOERROR
        self.question = b""
        self.name = b"\0"
        self.qtype = 0
        self.qclass = 0
        self.edns: Edns | None = None
        self.tsig = b""
        self.client = b""
        self.option = b""

    @property
    def key(self) -> bytes:
        """The question with its letter case folded."""
        return self.name + self.question[-4:]

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15


# ---------------------------------------------------------------- reading


def parse(packet: bytes) -> Query | None:
    """What a packet asks. None: silence (no whole header, or itself a response, however damaged)."""
    if len(packet) < HEADER_SIZE:
        return None
    ident, flags, qdcount, ancount, nscount, arcount = _HEADER.unpack_from(packet)
    if flags & QR:
        return None
    query = Query(ident, flags)
    try:
        at = HEADER_SIZE
        for _ in range(qdcount):
            at = _read_question(packet, at, query)
        if ancount or nscount or arcount:
            at = _read_records(packet, at, (ancount, nscount, arcount), query)
        if at != len(packet):
            raise FormatError("bytes behind the last record")
    except FormatError:
        query.rcode = FORMERR
        if query.edns is not None:
            query.edns.options = b""  # they may be what is damaged, so none is answered
    if qdcount != 1:
        # But for nothing asked and a cookie (RFC 7873 section 5.4).
        if qdcount or query.edns is None or not query.edns.cookie:
            query.rcode = FORMERR  # RFC 9619
        query.question, query.name = b"", b"\0"
    if query.opcode:
        query.rcode = NOTIMP  # whatever stands behind the header (RFC 8906 section 3.1.4)
    elif query.rcode == NOERROR and query.edns is not None and query.edns.version:
        query.rcode = BADVERS
    elif query.rcode == NOERROR and query.tsig:
        query.rcode = NOTAUTH  # no key is known here (RFC 8945 section 5.2.1)
    return query


def _read_question(packet: bytes, at: int, query: Query) -> int:
    begin = at
    size = len(packet)
    while True:
        if at >= size:
            raise FormatError("the question's name runs over the end")
        length = packet[at]
        if not length:
            break
        if length > 63:
            raise FormatError("a pointer or an unknown label type in the question")
        at += length + 1
    at += 1
    if at - begin > 255 or at + 4 > size:
        raise FormatError("the question is too long or cut off")
    query.name = packet[begin:at].lower()
    query.qtype, query.qclass = _TWO.unpack_from(packet, at)
    query.question = packet[begin : at + 4]
    return at + 4


def _read_records(packet: bytes, at: int, counts: Sequence[int], query: Query) -> int:
    """Walks all records, for they must be whole, and keeps the OPT and what answers a TSIG; where they end."""
    size = len(packet)
    for section, count in enumerate(counts):
        for number in range(1, count + 1):
            start = at
            at = skip_name(packet, at)
            if at + 10 > size:
                raise FormatError("a record is cut off")
            rtype, rclass, ttl, length = _FIXED.unpack_from(packet, at)
            at += 10
            if at + length > size:
                raise FormatError("a record's data is cut off")
            if rtype == OPT:
                if section != 2 or packet[start] or query.edns is not None:
                    raise FormatError("an OPT twice, misplaced, or with an owner name")
                options = packet[at : at + length]
                query.edns = Edns(rclass, ttl >> 16 & 255, bool(ttl & 0x8000), options)
                query.edns.cookie = _first_cookie(options)
            elif rtype == TSIG:
                if section != 2 or number != count or rclass != ANY or ttl:
                    raise FormatError("a TSIG that is not the last record, or not one in form")
                query.tsig = _bad_key(packet[start : at - 10], packet[at : at + length], query.id)
            at += length
    return at


def skip_name(packet: bytes, at: int) -> int:
    size = len(packet)
    start = at
    while at < size:
        length = packet[at]
        if length >= 0xC0:
            if at + 2 > size or ((length & 0x3F) << 8 | packet[at + 1]) >= start:
                raise FormatError("a pointer that does not point back")
            return at + 2
        # With this label's own length a name has 255 bytes at most (RFC 1035 section 3.1).
        if length > 63 or at + length - start > 254:
            raise FormatError("an unknown label type, or a name over 255 bytes")
        at += length + 1
        if not length:
            return at
    raise FormatError("a name runs over the end")


def _first_cookie(options: bytes) -> bytes:
    """b"" without one; others are ignored (RFC 7873 section 5.2). The options are checked to be whole."""
    at = 0
    cookie = b""
    while at < len(options):
        if at + 4 > len(options):
            raise FormatError("an EDNS option is cut off")
        code, length = _TWO.unpack_from(options, at)
        if code == OPTION_COOKIE and not cookie:
            if length != 8 and not 16 <= length <= 40:
                raise FormatError("a cookie of a bad length")  # RFC 7873 section 5.2.2
            cookie = options[at + 4 : at + 4 + length]
        at += 4 + length
    if at != len(options):
        raise FormatError("an EDNS option's length lies")
    return cookie


def option_codes(options: bytes) -> list[int]:
    """The codes of options that are known to be whole."""
    codes = []
    at = 0
    while at < len(options):
        code, length = _TWO.unpack_from(options, at)
        codes.append(code)
        at += 4 + length
    return codes


def _bad_key(owner: bytes, rdata: bytes, ident: int) -> bytes:
    """The unsigned TSIG record that says the key is unknown (RFC 8945 sections 4.2 and 5.3.2)."""
    at = skip_name(rdata, 0)
    algorithm, times, length = rdata[:at], rdata[at : at + 8], int.from_bytes(rdata[at + 8 : at + 10], "big")
    other = at + 10 + length + 4  # behind the MAC, the original id and the error
    if other + 2 > len(rdata) or other + 2 + int.from_bytes(rdata[other : other + 2], "big") != len(rdata):
        raise FormatError("a TSIG whose lengths lie")
    if len(owner) < 2 or _is_compressed(owner):
        raise FormatError("a TSIG without a key's name, or with a compressed one")
    content = b"".join((algorithm, times, b"\0\0", _TWO.pack(ident, BADKEY), b"\0\0"))
    return owner + _FIXED.pack(TSIG, ANY, 0, len(content)) + content


def _is_compressed(name: bytes) -> bool:
    """Of a name that is known to be whole."""
    at = 0
    while 0 < name[at] < 0xC0:
        at += name[at] + 1
    return name[at] != 0


def path_of(name: bytes) -> Path:
    """The labels, from the root down, of an uncompressed name in wire form."""
    labels = []
    at = 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length])
        at += length + 1
    labels.reverse()
    return tuple(labels)


# ---------------------------------------------------------------- writing

Rdata = Sequence[bytes | Path]  # parts: bytes as they are, a Path as a name that may be compressed


LENGTHS = tuple(bytes((length,)) for length in range(64))  # as they stand in front of a label


def encode_name(path: Path) -> bytes:
    """The name in wire form, uncompressed (as SRV targets must be, RFC 2782)."""
    return b"".join([LENGTHS[len(label)] + label for label in reversed(path)]) + b"\0"


class Names:
    """Names in wire form, uncompressed, for one answer: those that share all but the first label cost one."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Path, bytes] = {}

    def encode(self, path: Path) -> bytes:
        if not path:
            return b"\0"
        above = path[:-1]
        known = self._known.get(above)
        if known is None:
            known = self._known[above] = encode_name(above)
        label = path[-1]
        return LENGTHS[len(label)] + label + known


def encode_question(path: Path, qtype: int) -> bytes:
    """A question of class IN."""
    return encode_name(path) + _TWO.pack(qtype, IN)


class Encoder:
    """Writes names and records for answers to one question, compressing against the question's name."""

    __slots__ = ("_known", "_path")

    def __init__(self, question: Path) -> None:
        self._path = question
        self._known: dict[Path, bytes] = {}

    def name(self, path: Path) -> bytes:
        if path == self._path:
            return QUESTION_POINTER
        if path[:-1] == self._path:
            return LENGTHS[len(path[-1])] + path[-1] + QUESTION_POINTER
        if not self._known:
            self._learn_question()
        found = self._known.get(path)
        if found is None:
            found = self._known[path] = LENGTHS[len(path[-1])] + path[-1] + self.name(path[:-1])
        return found

    def _learn_question(self) -> None:
        """The question's own name and those above it, as pointers into it."""
        self._known[()] = b"\0"
        at = HEADER_SIZE + sum(map(len, self._path)) + len(self._path)
        for depth, label in enumerate(self._path, 1):
            at -= len(label) + 1
            self._known[self._path[:depth]] = (0xC000 | at).to_bytes(2, "big")

    def record(self, owner: Path, rtype: int, ttl: int, rdata: Rdata, rclass: int = IN) -> bytes:
        content = rdata[0]
        if len(rdata) > 1 or not isinstance(content, bytes):
            content = b"".join([part if isinstance(part, bytes) else self.name(part) for part in rdata])
        return self.name(owner) + _FIXED.pack(rtype, rclass, ttl, len(content)) + content


def encode_strings(text: bytes) -> bytes:
    """A TXT record's strings of at most 255 bytes each (RFC 1035 section 3.3.14)."""
    return b"".join(
        [bytes((len(part),)) + part for part in (text[at : at + 255] for at in range(0, len(text), 255))]
    )


def encode_opt(payload_size: int, do: bool, rcode: int = 0, options: bytes = b"") -> bytes:
    """Our OPT: version 0, the upper bits of `rcode`, DO as asked, the options as they are."""
    ttl = rcode >> 4 << 24 | (0x8000 if do else 0)
    return b"\0" + _FIXED.pack(OPT, payload_size, ttl, len(options)) + options


def encode_option(code: int, content: bytes) -> bytes:
    return _TWO.pack(code, len(content)) + content


def encode_extended_error(code: int) -> bytes:
    """An extended error as an option (RFC 8914 section 2), without text."""
    return encode_option(OPTION_EDE, code.to_bytes(2, "big"))

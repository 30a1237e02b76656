"""Bearer tokens: what they are, what each may do, and how they are written in a configuration.

Owns roles, the names that a token may write, the form of a stored token and of a configured one. It never keeps a
token and knows no HTTP. Only SHA-256 of a token is kept. That is enough: a token is 256 random bits, so it can't be
guessed from its hash at any speed, and a slow hash, which is for passwords, would cost every request. Looking the hash
up in a dict is as good as a comparison in constant time: a caller can't choose what his token's hash begins with, so
how long the look-up takes tells him nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Literal

import msgspec

from discovery import names
from discovery.errors import InvalidField
from discovery.names import Path

PREFIX = b"/discovery/tokens/"
SECRET_BYTES = 32
MARK = "dsc_"  # before a token's random part, so that people and scanners know one when they see it
MAX_NAMES = 100
ANY_LABEL = b"*"

_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")

RoleName = Literal["read", "register", "operate"]


class Role(IntEnum):
    """Each may do all that those before it may. NOBODY needs no token; `register` is bound to names."""

    NOBODY = 0
    READ = 1
    REGISTER = 2
    OPERATE = 3


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The value of one key. `hash` in hexadecimal; times are seconds since the epoch, `expires_at` 0: never."""

    name: str
    role: RoleName
    names: tuple[str, ...] = ()
    hash: str
    created_at: float
    expires_at: float = 0


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What its bearer may do. `id` is the stored token's, or the setting it comes from.

    `names` are what REGISTER may write, each a path whose labels may be `*`: all at or below them. `expires_at` 0:
    never.
    """

    id: str
    name: str
    role: Role
    names: tuple[Path, ...] = ()
    expires_at: float = 0

    def may_write(self, path: Path) -> bool:
        """Whether the name and all below it are the bearer's to write."""
        return self.role is Role.OPERATE or any(_covers(pattern, path) for pattern in self.names)

    @property
    def writes_all(self) -> bool:
        return self.may_write(())


ANYONE = Grant(id="", name="anyone", role=Role.OPERATE)
NO_ONE = Grant(id="", name="", role=Role.NOBODY)


def _covers(pattern: Path, path: Path) -> bool:
    return len(pattern) <= len(path) and all(
        wanted in (ANY_LABEL, label) for wanted, label in zip(pattern, path, strict=False)
    )


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def pattern(text: str, apex: Path) -> Path:
    """Names as a token has them: `web.prod` (below `apex`), `*.prod`, `web.prod.discovery.internal.`, `@`, `.` (all).

    Raises InvalidField.
    """
    if text == "@":
        return apex
    if text == ".":
        return ()
    lead = () if text.endswith(".") else apex
    labels = text.removesuffix(".").split(".")
    return lead + tuple(
        ANY_LABEL if label == "*" else names.check_label(label, "names") for label in reversed(labels)
    )


def patterns(role: RoleName, texts: Iterable[str], apex: Path) -> tuple[Path, ...]:
    """Raises InvalidField also where the role has no use for names, or can't be without."""
    found = tuple(dict.fromkeys(pattern(text, apex) for text in texts))
    if role == "register" and not found:
        raise InvalidField(
            "names: a token that registers needs the names it may write, such as web.prod, or @ for the whole zone",
            field="names",
        )
    if role != "register" and found:
        raise InvalidField(
            f"names: only the role register is bound to names; leave them out for {role}", field="names"
        )
    if len(found) > MAX_NAMES:
        raise InvalidField(
            f"names: {len(found)} are too many; at most {MAX_NAMES} fit one token", field="names"
        )
    return found


class Configured(msgspec.Struct, frozen=True):
    """`tokens` by the hash of the token, `certificates` by the name in a client's certificate."""

    tokens: dict[str, Grant]
    certificates: dict[str, Grant]

    @property
    def any(self) -> bool:
        return bool(self.tokens or self.certificates)


def configured(entries: Sequence[str], apex: Path) -> Configured:
    """What `http.tokens` says. An entry is `TOKEN` (role operate), or `ROLE TOKEN`, or `register NAME[,NAME] TOKEN`.

    TOKEN may be `sha256:HEX`, its hash, or `cert:NAME`, a name in the certificate of a client. Raises ValueError, whose
    text never holds a token.
    """
    found = Configured({}, {})
    for position, entry in enumerate(entries):
        *words, token = entry.split() or [""]
        role = words[0] if words else "operate"
        if role not in ("read", "register", "operate") or len(words) > (2 if role == "register" else 1):
            raise ValueError(
                f"entry {position + 1} is none of: TOKEN, read TOKEN, operate TOKEN, register NAME[,NAME] TOKEN"
            )
        texts = words[1].split(",") if len(words) == 2 else ()
        setting = f"http.tokens[{position}]"
        kind, colon, rest = token.partition(":")
        who = rest if kind == "cert" and colon else setting
        try:
            grant = Grant(
                id=setting,
                name=who,
                role=Role[role.upper()],
                names=patterns(role, texts, apex),  # type: ignore[arg-type]  # it is one of the three
            )
        except InvalidField as error:
            raise ValueError(f"entry {position + 1}: {error.detail}") from None
        if kind == "cert" and colon:
            if not rest:
                raise ValueError(f"entry {position + 1}: cert: lacks the name in the certificate")
            found.certificates[rest] = grant
        elif kind == "sha256" and colon:
            if not _SHA256.match(rest.lower()):
                raise ValueError(f"entry {position + 1}: sha256: is followed by 64 hexadecimal digits")
            found.tokens[rest.lower()] = grant
        elif not _VISIBLE.match(token):
            raise ValueError(
                f"entry {position + 1}: a token is made of visible ASCII characters; "
                "`discovery token make --offline` makes one"
            )
        else:
            found.tokens[hashed(token)] = grant
    return found


def read(key: bytes, value: bytes) -> tuple[str, Grant]:
    """The hash of a stored token, and what it grants. Raises ValueError when it is unreadable."""
    stored = msgspec.json.decode(value, type=Stored)  # its errors are ValueErrors
    if not _SHA256.match(stored.hash):
        raise ValueError("its hash is none")
    try:
        allowed = patterns(stored.role, stored.names, ())
    except InvalidField as error:
        raise ValueError(error.detail) from None
    return stored.hash, Grant(
        id=key.removeprefix(PREFIX).decode("ascii", "backslashreplace"),
        name=stored.name,
        role=Role[stored.role.upper()],
        names=allowed,
        expires_at=stored.expires_at,
    )

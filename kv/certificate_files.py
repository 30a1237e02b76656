"""The folder in which an operator keeps a cluster's CA and the certificates of its nodes.

Owns its layout, `ca.pem` and `ca-key.pem` and for each node `NAME.pem` and `NAME-key.pem`, and what of it is due. Keys
are readable by their owner alone. A certificate is renewed with the key it has, so that the two files fit together at
every moment; its new one takes its name when it is whole. What a certificate holds is `certificates`'.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from discovery.errors import ConfigError
from discovery.kv import certificates
from discovery.kv.certificates import DAY, Certificate, Issued, Key
from discovery.kv.sqlite_file import sync_directory

DUE = 30 * DAY  # before its end a certificate is renewed, and spoken of
AUTHORITY = "ca"
LONGEST_NAME = 64  # characters of a common name (RFC 5280 appendix A.1, ub-common-name)
FOREIGN = "was not issued by this CA"


class Entry(NamedTuple):
    """A certificate of the folder. `ends` None: it can't be read. `trouble` "": it is good for longer than DUE."""

    name: str
    file: Path
    hosts: Sequence[str]
    ends: datetime.datetime | None
    trouble: str


class Outcome(NamedTuple):
    """`why`: what it was made for; "" where nothing was due."""

    entry: Entry
    why: str


def days_left(ends: datetime.datetime, now: datetime.datetime) -> int:
    return (ends - now) // DAY


def look(folder: Path, now: datetime.datetime) -> Sequence[Entry]:
    """The CA and then every node's, by name. Raises ConfigError when there is no CA."""
    authorities = _authorities(folder)
    entries = [_entry(folder, AUTHORITY, authorities, now)]
    return [*entries, *(_entry(folder, name, authorities, now) for name in _nodes(folder, authorities))]


def renew(
    folder: Path, nodes: Mapping[str, Sequence[str]], now: datetime.datetime, *, force: bool = False
) -> Sequence[Outcome]:
    """Makes what is missing, and anew what is due or was made for other hosts.

    `nodes`: hosts by name; those that stand in the folder and not there keep the hosts they have. `force`: everything
    anew, the nodes' keys too. Raises ConfigError.
    """
    for name, hosts in nodes.items():
        _check_name(name)
        try:
            certificates.wanted(hosts)
        except ValueError as error:
            raise ConfigError(f"node {name}: {error}", field="node") from None
    authority, why = _authority(folder, nodes, now, force)
    outcomes = [Outcome(_entry(folder, AUTHORITY, [authority.certificate], now), why)]
    known = _nodes(folder, [authority.certificate])
    for name in [*nodes, *(each for each in known if each not in nodes)]:
        entry = _entry(folder, name, [authority.certificate], now)
        hosts = nodes.get(name, entry.hosts)
        if not hosts:
            raise ConfigError(
                f"{entry.file}: {entry.trouble}: name its addresses with --node {name}=ADDRESS", field="node"
            )
        why = entry.trouble
        if name not in known:
            why = "new"
        elif name not in nodes and why == FOREIGN:
            why = ""  # it is not ours to renew, and the entry says so
        elif force:
            why = "forced"
        elif not why and set(certificates.wanted(hosts)) != set(entry.hosts):
            why = "other addresses"
        if why:
            key = None if force else _key_if_good(_key_file(folder, name))
            _write(folder, name, certificates.issue(authority, name, hosts, now, key))
            entry = _entry(folder, name, [authority.certificate], now)
        outcomes.append(Outcome(entry, why))
    return outcomes


def read_chain(file: Path) -> Sequence[Certificate]:
    """The certificates of a PEM file, at least one. Raises OSError, and ValueError when it holds none."""
    return x509.load_pem_x509_certificates(file.read_bytes())


def read_key(file: Path) -> object:
    """A private key of any kind. Raises OSError, and ValueError when it is none or has a password."""
    try:
        return serialization.load_pem_private_key(file.read_bytes(), None)
    except TypeError as error:  # it has a password
        raise ValueError(str(error)) from None


# ---------------------------------------------------------------- the authority


def _authority(
    folder: Path, nodes: Mapping[str, Sequence[str]], now: datetime.datetime, force: bool
) -> tuple[Issued, str]:
    """The CA and why it was made or renewed, "" when it was not. A forced one keeps its key, or no member would trust
    the others before all had the new one."""
    cert, key_file = _cert_file(folder, AUTHORITY), _key_file(folder, AUTHORITY)
    if not cert.exists() and not key_file.exists():
        if not nodes:
            raise ConfigError(f"{folder} holds no CA: name the nodes with --node NAME=ADDRESS", field="node")
        made = certificates.new_authority(now)
        _write(folder, AUTHORITY, made)
        return made, "new"
    (current, *_) = _authorities(folder)
    key = _key_if_good(key_file)
    if key is None or not certificates.fits(current, key):
        raise ConfigError(
            f"{key_file} is not the key of {cert}, or can't be read: bring it back to renew, "
            "or begin with an empty folder and give every node the new ca.pem"
        )
    if not force and now + DUE < current.not_valid_after_utc:
        return Issued(current, key), ""
    made = certificates.new_authority(now, key)
    _write(folder, AUTHORITY, made)
    return made, "forced" if force else "it ends"


def _authorities(folder: Path) -> Sequence[Certificate]:
    file = _cert_file(folder, AUTHORITY)
    try:
        return read_chain(file)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no certificate in PEM"
        raise ConfigError(
            f"{file} can't be read ({what}): name the folder that `discovery cluster certs` made"
        ) from None


# ---------------------------------------------------------------- files


def _nodes(folder: Path, authorities: Sequence[Certificate]) -> Sequence[str]:
    """Those that have a key here, and those whose key is missing."""
    names = {file.name.removesuffix("-key.pem") for file in folder.glob("*-key.pem")}
    for file in folder.glob("*.pem"):
        try:
            if not file.name.endswith("-key.pem") and certificates.is_issued_by(
                read_chain(file), authorities
            ):
                names.add(file.stem)
        except (OSError, ValueError):
            continue  # no certificate, or not ours
    return sorted(names - {AUTHORITY})


def _entry(folder: Path, name: str, authorities: Sequence[Certificate], now: datetime.datetime) -> Entry:
    file = _cert_file(folder, name)
    try:
        chain = read_chain(file)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "no certificate in PEM"
        return Entry(name, file, (), None, f"can't be read ({what})")
    ends = chain[0].not_valid_after_utc
    hosts = certificates.hosts_in(chain[0])
    key = _key_if_good(_key_file(folder, name))
    if ends <= now:
        trouble = f"ended on {ends:%Y-%m-%d}"
    elif ends <= now + DUE:
        trouble = f"ends in {days_left(ends, now)} days"
    elif name != AUTHORITY and not certificates.is_issued_by(chain, authorities):
        trouble = FOREIGN
    elif name != AUTHORITY and (key is None or not certificates.fits(chain[0], key)):
        trouble = "its key is missing or another's"
    else:
        trouble = ""
    return Entry(name, file, hosts, ends, trouble)


def _key_if_good(file: Path) -> Key | None:
    try:
        key = read_key(file)
    except (OSError, ValueError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _cert_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.pem"


def _key_file(folder: Path, name: str) -> Path:
    return folder / f"{name}-key.pem"


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f"node {name!r} is longer than the {LONGEST_NAME} characters that a certificate's name may have",
            field="node",
        )
    if name == AUTHORITY or name.endswith("-key") or not name or name.startswith(".") or "/" in name:
        raise ConfigError(
            f"node {name!r} can't have a file of that name here: choose another name", field="node"
        )


def _write(folder: Path, name: str, issued: Issued) -> None:
    """The key first: a certificate without its key would be worth nothing."""
    cert, key = certificates.pem(issued)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, content, mode in (
            (_key_file(folder, name), key, 0o600),
            (_cert_file(folder, name), cert, 0o644),
        ):
            partial = file.with_name(f".{file.name}.partial")
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
            with os.fdopen(handle, "wb") as out:
                os.fchmod(handle, mode)
                out.write(content)
                out.flush()
                os.fsync(handle)
            partial.replace(file)
        sync_directory(folder)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder} can't be written: {error.strerror}: name another folder"
        ) from None

"""What a group of writes has read and not yet written: one look before it, a few statements after it.

Owns the SQL of keys, leases and log rows, all in bulk (bulk says why). It decides nothing: `group` does. What was
not read before is read when it is asked for, and who needs SQL over a range calls `settle` before.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable

from discovery.kv.bulk import by_size, chunks, insert, run

State = tuple[int, int, int, int]
"""create_rev, mod_rev, version, lease"""

Row = tuple[bytes, int, int, int, int, bytes]
"""A row of kv: key, create_rev, mod_rev, version, lease, value"""

LogRow = tuple[int, int, bytes, int, int, int, bytes | None]
LeaseRow = tuple[int, int]


PUT = insert("REPLACE", "kv", 6)
LOG = insert("INSERT", "log", 7)
DELETE = by_size("DELETE FROM kv WHERE key IN (", "?", ")")
# One row whatever the number of keys. CROSS JOIN: the wanted keys lead, and each is one look into the tree.
LOOK = by_size(
    "WITH wanted(k) AS (VALUES ",
    "(?)",
    ") SELECT group_concat(hex(key) || ' ' || create_rev || ' ' || mod_rev || ' ' || version || ' ' || lease) "
    "FROM wanted CROSS JOIN kv ON kv.key = wanted.k",
)
GRANT = "INSERT INTO lease (id, ttl) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
LOOK_LEASES = "SELECT json_group_array(id) FROM lease WHERE id IN (SELECT value FROM json_each(?))"


class Pending:
    """The keys and leases of one open transaction, as they are with all that the group has done so far."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._states: dict[bytes, State | None] = {}  # None: there is no such key
        self._rows: dict[bytes, Row | None] = {}  # not written yet; None: to be deleted
        self._leases: dict[int, bool] = {}  # whether it exists
        self._granted: list[LeaseRow] = []  # not written yet
        self._log: list[LogRow] = []

    # ---- reading

    def look(self, keys: Collection[bytes], leases: Collection[int]) -> None:
        """Reads the state of all of them at once."""
        for chunk in chunks(keys):
            self._states.update(dict.fromkeys(chunk))
            found = run(self._connection, LOOK, [(key,) for key in chunk]).fetchone()[0]
            for row in found.split(",") if found else ():
                key, create_rev, mod_rev, version, lease = row.split(" ")
                self._states[bytes.fromhex(key)] = (int(create_rev), int(mod_rev), int(version), int(lease))
        if leases:
            self._leases.update(dict.fromkeys(leases, False))
            found = self._connection.execute(LOOK_LEASES, (json.dumps(list(leases)),)).fetchone()[0]
            self._leases.update(dict.fromkeys(json.loads(found), True))

    def state(self, key: bytes) -> State | None:
        if key not in self._states:
            self.look((key,), ())
        return self._states[key]

    def value(self, key: bytes) -> bytes | None:
        if key in self._rows:
            row = self._rows[key]
            return row[5] if row is not None else None
        found = self._connection.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        return bytes(found[0]) if found else None

    def has_lease(self, lease_id: int) -> bool:
        if lease_id not in self._leases:
            self.look((), (lease_id,))
        return self._leases[lease_id]

    # ---- writing

    def put(self, row: Row) -> None:
        key, create_rev, mod_rev, version, lease, _ = row
        self._states[key] = (create_rev, mod_rev, version, lease)
        self._rows[key] = row

    def delete(self, key: bytes) -> None:
        self._states[key] = None
        self._rows[key] = None

    def deleted(self, keys: Iterable[bytes]) -> None:
        """They are gone from the table, after a `settle`."""
        self._states.update(dict.fromkeys(keys))

    def grant(self, lease_id: int, ttl: int) -> None:
        self._leases[lease_id] = True
        self._granted.append((lease_id, ttl))

    def revoked(self, lease_ids: Iterable[int]) -> None:
        """They are gone from the table, after a `settle`."""
        self._leases.update(dict.fromkeys(lease_ids, False))

    def log(self, row: LogRow) -> None:
        self._log.append(row)

    def settle(self) -> None:
        """Writes keys and leases, so that SQL sees them."""
        if self._granted:
            self._connection.execute(GRANT, (json.dumps(self._granted),))
            self._granted = []
        if self._rows:
            rows = [row for _, row in sorted(self._rows.items()) if row is not None]
            for chunk in chunks(rows):
                run(self._connection, PUT, chunk)
            for keys in chunks([key for key, row in self._rows.items() if row is None]):
                run(self._connection, DELETE, [(key,) for key in keys])
            self._rows = {}

    def finish(self) -> None:
        """Writes everything, the log too."""
        self.settle()
        for chunk in chunks(self._log):
            run(self._connection, LOG, chunk)
        self._log = []

"""When a registration beats next, and how long it waits for a node. Pure arithmetic.

Owns the jitter, which spreads the heartbeats of many clients that began at once, and the shares of a lease's time:
of the three heartbeats that fit into it, two may fail without the lease ending.
"""

from __future__ import annotations

RETRY = 1.0  # seconds between two tries while no node takes the call, at most
PERMANENT = 60.0  # seconds between two looks at an instance without a lease, which needs no heartbeat
REFUSED = 10.0  # seconds between two tries after a no, which a new token or setting may turn
SPREAD = 1.0  # seconds until all nodes have what one has taken
SHORTEST, LONGEST = 0.5, 5.0  # seconds that one node is given for a heartbeat, at least and at most


def next_beat(every: float | None, share: float) -> float:
    """Seconds from one heartbeat's begin to the next; never more than the node asks for. `share`: random, 0..1.

    `every` None: it asks for none, since the instance is permanent.
    """
    asked = every if every and every > 0 else PERMANENT
    return asked * (0.8 + 0.2 * share)


def patience(every: float | None) -> float:
    """Seconds one node is given, so that another can still be asked while the lease lives."""
    return min(LONGEST, max(SHORTEST, (every or LONGEST) / 2))


def next_try(every: float | None, share: float, retry_after: float | None = None) -> float:
    """Seconds until the next try after no node took the call; a node that names a time is heard within the lease's."""
    longest = min(RETRY, every) if every and every > 0 else RETRY
    if retry_after is not None:
        longest = min(max(longest, retry_after), max(longest, every or retry_after))
    return longest * (0.5 + 0.5 * share)

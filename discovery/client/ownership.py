"""Whose an instance is, where two programs have registered under one id: the last one's.

Owns how it is told and how only one's own is taken out. A registration that finds another in its place takes a lease of
its own (Client.claim), so that the other can tell; draining keeps fields and lease, and changes the revision alone.
"""

from __future__ import annotations

import msgspec

from discovery.client.client import Client
from discovery.client.errors import Contradicted
from discovery.client.fields import Instance
from discovery.client.transport import TIMEOUT

LOOKS = 5  # at what has changed between two calls
FAILED_PRECONDITION = 412


async def withdraw(
    client: Client, service: str, instance: str, made: Instance, *, seconds: float = TIMEOUT
) -> bool:
    """Deregisters what a registration has `made`, drained or not; False: another's has taken its place, and stays.

    Raises NotRegistered when it is not there, and what every call raises.
    """
    revision = made.revision
    for look in range(LOOKS):
        try:
            await client.deregister(service, instance, revision=revision, seconds=seconds)
        except Contradicted as error:
            if error.answered != FAILED_PRECONDITION or look == LOOKS - 1:
                raise
        else:
            return True
        present = await client.instance(service, instance, seconds=seconds)
        if not is_same(present, made):
            return False
        revision = present.revision
    raise AssertionError  # the last look returns or raises


def is_same(present: Instance, made: Instance) -> bool:
    """Whether it is the same registration, whatever has become of it since."""
    same = ("revision", "drained_at", "expires_at", "heartbeat_every")
    return msgspec.structs.replace(present, **{name: getattr(made, name) for name in same}) == made

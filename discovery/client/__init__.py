"""The Python client: register, stay registered, find, watch. `discovery.client.sync` is the same for threads.

Owns the names that programs import; `deploy/client.md` shows how they are used.
"""

from discovery.client.checks import Check, Checking
from discovery.client.client import Client
from discovery.client.errors import (
    BadCall,
    ClientError,
    Compacted,
    Contradicted,
    NotAllowed,
    NotRegistered,
    Refused,
    Unavailable,
)
from discovery.client.fields import Beat, Event, Fields, Instance, Lease, LeaseInstance
from discovery.client.order import Endpoint
from discovery.client.registration import Registration

__all__ = [
    "BadCall",
    "Beat",
    "Check",
    "Checking",
    "Client",
    "ClientError",
    "Compacted",
    "Contradicted",
    "Endpoint",
    "Event",
    "Fields",
    "Instance",
    "Lease",
    "LeaseInstance",
    "NotAllowed",
    "NotRegistered",
    "Refused",
    "Registration",
    "Unavailable",
]

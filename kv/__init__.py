"""The store: keys, revisions, leases and watches. It knows nothing of DNS or of services."""

import os

# grpc, which only the etcd engine loads, reads it once: what it meets reaches us as exceptions, not as lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

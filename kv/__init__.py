"""The store: keys, revisions, leases and watches. It knows nothing of DNS or of services."""

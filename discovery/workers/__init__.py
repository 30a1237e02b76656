"""Processes that answer DNS on one port, each with a view of its own, fed by the node's main process."""

"""What keeps services registered that know nothing of Discovery: `discovery run` and `discovery agent`."""

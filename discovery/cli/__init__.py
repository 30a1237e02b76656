"""The command `discovery`: one program to run a node and to talk to one.

Owns the door. It imports nothing before it is ready for ^C, which may come while the rest is still being imported.
What the commands are, and how errors become lines and exit statuses, is `commands`'.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from discovery.cli.commands import run

        status = run()
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)

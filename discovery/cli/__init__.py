"""The command `discovery`: one program to run a node and to talk to one.

Owns the top-level group and the one place where errors become a line on standard error and an exit status:
0 done, 1 failed, 2 wrong usage or set-up, 130 interrupted. It never does a command's work.
Each command group is a file of its own and imports what is heavy inside its functions, so `--help` stays quick.
"""

from __future__ import annotations

import sys

import click

from discovery import __version__
from discovery.cli.config import config
from discovery.cli.explain import explain, zone
from discovery.cli.lookup import lookup
from discovery.cli.options import config_options
from discovery.cli.serve import serve
from discovery.cli.services import deregister, list_, register
from discovery.cli.store import store
from discovery.errors import DiscoveryError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="discovery", message="%(prog)s %(version)s")
@config_options
def cli() -> None:
    """Service discovery over DNS: register over HTTP, be found with SRV and A.

    \b
    Example:
      discovery serve
      discovery register web.prod i1 --host 10.0.0.1 --port 80
      discovery lookup web.prod.discovery.internal SRV
    """


for _command in (serve, register, deregister, list_, lookup, explain, zone, config, store):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit with its status. A reader that left, as `head` does, click meets quietly with 1."""
    try:
        status = cli.main(prog_name="discovery", standalone_mode=False)
    except DiscoveryError as error:
        click.echo(f"discovery: {' '.join(error.detail.split())}", err=True)
        status = error.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    sys.exit(status if isinstance(status, int) else 0)

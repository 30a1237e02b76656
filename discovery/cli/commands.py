"""The commands as one program, and the one place where errors become a line on standard error and an exit status.

Owns the top-level group and the statuses: 0 done, 1 failed, 2 wrong usage or set-up, 130 interrupted. It never does
a command's work. Each command group is a file of its own and imports what is heavy inside its functions, so `--help`
stays quick.
"""

from __future__ import annotations

import errno
import os
import sys

import click

from discovery import __version__
from discovery.cli import INTERRUPTED
from discovery.cli.agent import agent
from discovery.cli.ask import api, health, metrics
from discovery.cli.batch import batch
from discovery.cli.bench import bench
from discovery.cli.cluster import cluster
from discovery.cli.completion import completion
from discovery.cli.config import config
from discovery.cli.doctor import doctor
from discovery.cli.drain import drain, undrain
from discovery.cli.explain import explain, zone
from discovery.cli.lease import lease
from discovery.cli.listing import list_, show
from discovery.cli.lookup import lookup
from discovery.cli.options import config_options
from discovery.cli.run import run as run_
from discovery.cli.serve import serve
from discovery.cli.services import deregister, heartbeat, register
from discovery.cli.store import store
from discovery.cli.token import token
from discovery.cli.top import top
from discovery.cli.watch import watch
from discovery.errors import DiscoveryError

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}


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


for _command in (
    serve,
    run_,
    agent,
    register,
    deregister,
    drain,
    undrain,
    heartbeat,
    list_,
    show,
    watch,
    top,
    batch,
    lease,
    lookup,
    explain,
    zone,
    health,
    doctor,
    bench,
    metrics,
    config,
    store,
    cluster,
    token,
    api,
    completion,
):
    cli.add_command(_command)


def run() -> int:
    """The exit status. A reader that left, as `head` does, is met quietly with 1."""
    try:
        status = cli.main(prog_name="discovery", standalone_mode=False)
        if sys.stdout is not None:  # None: it was closed from the start
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except DiscoveryError as error:
        _complain(error.detail)
        return error.exit_code
    except click.UsageError as error:
        return _misused(error)
    except click.ClickException as error:
        _complain(error.format_message())
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITABLE:
            raise  # it was not standard output, which has no name
        _let_go_of_stdout()
        if error.errno != errno.EPIPE:
            _complain(f"standard output cannot be written: {error.strerror}")
        return 1


def _complain(text: str) -> None:
    click.echo(f"discovery: {' '.join(text.split())}", err=True)


def _misused(error: click.UsageError) -> int:
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()  # nothing was said, so nothing is wrong: this is the help
    else:
        command = error.ctx.command_path if error.ctx else "discovery"
        _complain(f"{error.format_message().rstrip('.')}; see `{command} --help`")
    return error.exit_code


def _let_go_of_stdout() -> None:
    """What it still holds goes nowhere, or Python would try to write it once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

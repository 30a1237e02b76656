"""`discovery cluster`: the cluster whose members the nodes run.

Owns the group. Its commands stand in files of their own.
"""

from __future__ import annotations

import click

from discovery.cli.certs import certs
from discovery.cli.init import init
from discovery.cli.members import add, defrag, promote, remove, snapshot, status
from discovery.cli.options import config_options
from discovery.cli.recovery import recover, restore


@click.group(short_help="Look after the nodes and their managed etcd.")
@config_options
def cluster() -> None:
    """Look after the nodes, and the members of their managed etcd.

    \b
    Example:
      discovery cluster init
      discovery cluster status
      discovery cluster certs ./certs --node n1=10.0.0.1 --node n2=10.0.0.2 --node n3=10.0.0.3
    """


for _command in (init, status, add, remove, promote, defrag, snapshot, restore, recover, certs):
    cluster.add_command(_command)

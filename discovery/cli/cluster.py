"""`discovery cluster`: the cluster whose members the nodes run.

Owns the group. Its commands stand in files of their own.
"""

from __future__ import annotations

import click

from discovery.cli.certs import certs
from discovery.cli.options import config_options


@click.group()
@config_options
def cluster() -> None:
    """Run the cluster of engine managed-etcd.

    \b
    Example:
      discovery cluster certs ./certs --node n1=10.0.0.1 --node n2=10.0.0.2 --node n3=10.0.0.3
    """


cluster.add_command(certs)

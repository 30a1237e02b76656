"""`discovery lease`: leases that many instances may hang on, by hand.

Owns these commands. What a lease is, and when it ends, the node says.
"""

from __future__ import annotations

import click

from discovery.cli.calls import call, not_empty
from discovery.cli.options import node_options
from discovery.cli.output import Form, output_option, print_table, printed, relative, say


@click.group(short_help="Leases that hold many instances.")
def lease() -> None:
    """Leases that hold many instances, which then live and end together.

    \b
    Example:
      discovery lease grant 60
      discovery register web.prod i1 --host 10.0.0.1 --lease 694d77aa9e38260f
    """


@lease.command()
@click.argument("ttl", type=click.IntRange(1, 86400))
@output_option
@node_options
def grant(ttl: int, output: Form, node_url: str, token: str | None) -> None:
    """Grant a lease of TTL seconds, and print its id.

    \b
    Example:
      discovery lease grant 60
    """
    answer = call(node_url, token, "POST", "v1", "leases", body={"ttl": ttl})
    if not printed(output, answer):
        say(answer["id"])


@lease.command()
@click.argument("lease_id", metavar="ID", callback=not_empty)
@output_option
@node_options
def show(lease_id: str, output: Form, node_url: str, token: str | None) -> None:
    """Show how long the lease ID still runs, and what it holds.

    \b
    Example:
      discovery lease show 694d77aa9e38260f
    """
    answer = call(node_url, token, "GET", "v1", "leases", lease_id)
    if printed(output, answer):
        return
    say(f"lease {answer['id']} of {answer['ttl']} s ends {relative(answer['expires_at'])}")
    if answer["instances"]:
        print_table(
            ("instance", "drained"),
            [(one["name"], relative(one["drained_at"])) for one in answer["instances"]],
        )
    else:
        say("it holds nothing")


@lease.command()
@click.argument("lease_ids", metavar="ID...", nargs=-1, required=True)
@output_option
@node_options
def renew(lease_ids: tuple[str, ...], output: Form, node_url: str, token: str | None) -> int:
    """Renew leases once. The exit status is 1 when one of them is gone.

    \b
    Example:
      discovery lease renew 694d77aa9e38260f
    """
    if len(lease_ids) == 1:
        answer = call(node_url, token, "POST", "v1", "leases", lease_ids[0], "heartbeat", body={})
        if not printed(output, answer):
            say(f"renewed lease {answer['id']} for {answer['ttl']} s")
        return 0
    answer = call(node_url, token, "POST", "v1", "heartbeats", body={"leases": list(lease_ids)})
    if not printed(output, answer):
        say(f"renewed {answer['renewed']} leases")
        for missing in answer["missing"]:
            say(f"lease {missing} is gone: what it held must be registered again")
    return int(bool(answer.get("missing")))


@lease.command()
@click.argument("lease_id", metavar="ID", callback=not_empty)
@output_option
@node_options
def revoke(lease_id: str, output: Form, node_url: str, token: str | None) -> None:
    """End the lease ID, and deregister all that it holds at once.

    \b
    Example:
      discovery lease revoke 694d77aa9e38260f
    """
    call(node_url, token, "DELETE", "v1", "leases", lease_id)
    if not printed(output, {"id": lease_id, "revoked": True}):
        say(f"revoked lease {lease_id}, with all that it held")

"""`discovery token`: make, list and revoke the tokens that calls of the API need.

Owns these commands. The first token is made on a node that has none, over loopback, where everyone may do everything
still; or without a node, with `--offline`, for the configuration. A token is printed once, and alone, on standard
output, so that it can go straight into a file.
"""

from __future__ import annotations

import click

from discovery.cli.calls import call
from discovery.cli.options import config_options, node_options
from discovery.cli.output import Form, output_option, print_table, printed, relative, say
from discovery.errors import InvalidField

DAY = 86400  # seconds


@click.group()
@config_options
def token() -> None:
    """Tokens for the HTTP API.

    \b
    Example:
      discovery token make admin --role operate > admin.token
    """


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(("read", "register", "operate")),
    required=True,
    help="read: look; register: also write its names; operate: everything.",
)
@click.option(
    "--names",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="What a token of the role register may write: at and below web.prod, *.prod, @ (the zone); repeatable.",
)
@click.option(
    "--days", type=click.IntRange(1, 3660), help="How long it holds [default: until it is revoked]."
)
@click.option(
    "--offline",
    is_flag=True,
    help="Ask no node: print a token, and the line for http.tokens that lets it in, which holds its hash only.",
)
@node_options
@output_option
def make(
    name: str,
    role: str,
    allowed: tuple[str, ...],
    days: int | None,
    offline: bool,
    node_url: str,
    token: str | None,
    output: Form,
) -> None:
    """Make a token for NAME, who will use it, and print it: it can't be shown again.

    \b
    Example:
      discovery token make admin --role operate > admin.token
      discovery token make web --role register --names web.prod --token-file admin.token > web.token
      discovery token make first --role operate --offline
    """
    if offline:
        if days is not None:
            raise click.UsageError(
                "--offline: a token in the configuration does not expire: leave --days out"
            )
        _make_offline(role, allowed, output)
        return
    body = {"name": name, "role": role, "names": list(allowed), "expires_in": (days or 0) * DAY}
    answer = call(node_url, token, "POST", "v1", "tokens", body=body)
    if printed(output, answer):
        return
    say(answer["token"])
    click.echo(f"made {answer['id']}: `discovery token revoke {answer['id']}` revokes it", err=True)


def _make_offline(role: str, allowed: tuple[str, ...], output: Form) -> None:
    import secrets

    from discovery import tokens

    tokens.patterns(role, allowed, ())  # type: ignore[arg-type]  # click has checked it
    made = tokens.MARK + secrets.token_urlsafe(tokens.SECRET_BYTES)
    words = [role, ",".join(allowed), f"sha256:{tokens.hashed(made)}"]
    entry = " ".join(word for word in words if word)
    if printed(output, {"token": made, "entry": entry}):
        return
    say(made)
    click.echo(f'for the configuration: http: {{tokens: ["{entry}"]}}', err=True)


@token.command(name="list")
@node_options
@output_option
def list_(node_url: str, token: str | None, output: Form) -> None:
    """Show who has a token. What nobody uses any more is best revoked.

    \b
    Example:
      discovery token list --token-file admin.token
    """
    answer = call(node_url, token, "GET", "v1", "tokens")
    if printed(output, answer):
        return
    print_table(
        ("id", "name", "role", "names", "made", "expires", "kept in"),
        [
            (
                each["id"],
                each["name"],
                each["role"],
                ", ".join(each["names"]),
                relative(each["created_at"]),
                relative(each["expires_at"]) or "never",
                each["source"],
            )
            for each in answer["tokens"]
        ],
    )


@token.command()
@click.argument("token_id", metavar="ID")
@output_option
@node_options
def revoke(token_id: str, output: Form, node_url: str, token: str | None) -> None:
    """Revoke a token: from now on no node of the cluster takes it.

    \b
    Example:
      discovery token revoke 3f9a0c12b7de --token-file admin.token
    """
    if not token_id:
        raise InvalidField("ID is empty: `discovery token list` shows them", field="ID")
    call(node_url, token, "DELETE", "v1", "tokens", token_id)
    printed(output, {"id": token_id, "revoked": True})

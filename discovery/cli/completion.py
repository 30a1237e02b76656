"""`discovery completion`: what a shell needs to complete commands, options, services and instances.

Owns the command; the scripts are click's own. A shell that completes
runs this program again, and click sees to it before any command.
"""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_DISCOVERY_COMPLETE"  # by which the scripts ask this program


@click.command(short_help="Print the completion of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script with which SHELL completes commands, options, and the names that a node knows.

    bash: in ~/.bashrc, or once for all users in /etc/bash_completion.d. zsh: in ~/.zshrc, after compinit. fish: in
    ~/.config/fish/completions/discovery.fish.

    \b
    Example:
      discovery completion bash > /etc/bash_completion.d/discovery
      source <(discovery completion zsh)
      discovery completion fish > ~/.config/fish/completions/discovery.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "discovery", VARIABLE).source())

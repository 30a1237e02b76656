"""`discovery completion`: what a shell needs to complete commands, options, services and instances.

Owns the command, and bash's script, which splits the line itself: bash would split `--node http://n1:8053` at its
colons. The others are click's own. A shell that completes runs this program again, and click answers it.
"""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_DISCOVERY_COMPLETE"  # by which the scripts ask this program

_BASH = """\
_discovery_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" words=() each kind value
    read -r -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local IFS=$'\\n'
    COMPREPLY=()
    for each in $(COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) _DISCOVERY_COMPLETE=bash_complete "$1"); do
        IFS=, read -r kind value <<< "$each"
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F _discovery_completion discovery
"""


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
    if shell == "bash":
        click.echo(_BASH, nl=False)
        return
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "discovery", VARIABLE).source())

"""`drivetl completion`: the script that makes a shell complete commands, flags, values and paths."""

from __future__ import annotations

import argparse
import os

SHELLS = {
    "bash": 'eval "$(drivetl completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(drivetl completion zsh)" in ~/.zshrc, after compinit',
    "fish": "drivetl completion fish > ~/.config/fish/completions/drivetl.fish",
}
"""Shell -> where its script goes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("shell", choices=tuple(SHELLS), help="shell to print the script for")
    parser.epilog = "; ".join(f"{shell}: {line}" for shell, line in SHELLS.items())


def run(args: argparse.Namespace) -> None:
    """Print the script, which calls drivetl at every Tab: `complete` answers."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["drivetl"], shell=args.shell))


def complete() -> None:
    """Answer a shell that asks for completions, and exit; without such a request, do nothing."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    from drivetl.commands import build_parser, command_of

    words = os.environ.get("COMP_LINE", "").split()
    argcomplete.autocomplete(build_parser(command_of(words[1:])))

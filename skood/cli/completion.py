"""``skood completion``: a script for the shell, made from the parser."""

from __future__ import annotations

import argparse

from skood.cli.exits import DONE

__all__ = ["script"]

NAME = "completion"
SUMMARY = "print a script that completes this command line in bash or zsh"
DESCRIPTION = """\
Print a script that completes commands, options and files in bash or zsh."""
EPILOG = """\
examples:
  skood completion bash > ~/.local/share/bash-completion/completions/skood
  eval "$(skood completion zsh)\""""

TEMPLATE = """\
_skood() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} words
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    if ((COMP_CWORD == 1)); then
        words="{commands}"
    fi
    if [[ $current == -* ]] || ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    else
        COMPREPLY=($(compgen -W "$values" -- "$current") $(compgen -f -- "$current"))
    fi
}}
complete -o filenames -F _skood skood
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="which one it is for")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(script(arguments.parser, arguments.shell), end="")
    return DONE


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script of a parser with commands.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The whole.
    shell : {"bash", "zsh"}
        Which one it is for; zsh has bash's functions on request.

    Returns
    -------
    str
    """
    found = next(a for a in parser._actions if isinstance(a.choices, dict))
    assert isinstance(found.choices, dict)
    commands = found.choices
    cases = "\n".join(_case(name, own) for name, own in commands.items())
    text = TEMPLATE.format(cases=cases, commands=" ".join([*commands, "--help"]))
    if shell == "zsh":
        return f"autoload -U +X bashcompinit && bashcompinit\n{text}"
    return text


def _case(name: str, parser: argparse.ArgumentParser) -> str:
    options = [option for action in parser._actions for option in action.option_strings]
    values = [
        str(value)
        for action in parser._actions
        for value in (action.choices or ())
        if not action.option_strings
    ]
    return (
        f'        {name}) words="{" ".join(options)}"; '
        f'local values="{" ".join(values)}" ;;'
    )

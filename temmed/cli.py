"""The ``temmed`` command.

Only the standard library and Typer are loaded here; each command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from temmed import __version__
from temmed.errors import InputError
from temmed.timelines import cli as timelines

#: What a command returns when the user's input cannot be used.
EXIT_INPUT = 2


class _Commands(TyperGroup):
    """Says what is wrong with the user's input in one message, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            message = str(error)
        except BrokenPipeError:
            raise
        except OSError as error:
            message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.secho(f"temmed: {message}", err=True, fg="red" if sys.stderr.isatty() else None)
        raise typer.Exit(EXIT_INPUT)


app = typer.Typer(
    name="temmed",
    cls=_Commands,
    help="Train and judge models that read a patient's images over time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(timelines.app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"temmed {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train and judge models that read a patient's images over time."""


def _is_installed(module: str) -> bool:
    parent = module.rpartition(".")[0]
    return find_spec(parent) is not None and find_spec(module) is not None


if _is_installed("temmed.evaluation.cli"):
    import_module("temmed.evaluation.cli").register(app)


def main() -> None:
    """Run the command: what ``temmed`` starts."""
    app(prog_name="temmed")


if __name__ == "__main__":
    main()

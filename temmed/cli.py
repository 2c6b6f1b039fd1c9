"""The ``temmed`` command.

Only the standard library and Typer are loaded here; each command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from temmed import __version__
from temmed.data import cli_cache
from temmed.data.streaming.cli import shard
from temmed.errors import InputError
from temmed.timelines import cli as timelines

if TYPE_CHECKING:
    from temmed.answering import Reply

#: What a command returns when the user's input cannot be used.
EXIT_INPUT = 2
#: What a shell returns for a command that Ctrl-C ended.
_EXIT_INTERRUPTED = 130


class _Commands(TyperGroup):
    """Says what is wrong with the user's input, or that Ctrl-C came, in one message without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(_EXIT_INTERRUPTED) from None
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
timelines.app.command()(shard)
app.add_typer(timelines.app, name="data")
app.add_typer(cli_cache.app, name="cache")


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


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="Of a training run.", show_default=False)],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A timeline folder, or shards.", show_default=False)],
    ask: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A question in your own words.", show_default="the folder's own questions"),
    ] = None,
    choices: Annotated[
        str, typer.Option(metavar="A|B|C", help="Its possible answers.")
    ] = "progressed|stable|regressed",
    sequence: Annotated[
        str | None, typer.Option(metavar="ID", help="Ask this sequence only.", show_default="all")
    ] = None,
    position: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Ask at this time point, counted from 0.", show_default="the last with an image"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the prediction tables here.", show_default="none")
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="With --out: also where the model looked.")] = False,
) -> None:
    """Answer questions about a timeline folder with a trained model. Not a medical device."""
    if ask is None and out is None:
        raise InputError(
            "--ask or --out",
            "neither",
            "temmed predict",
            "Ask a question with --ask TEXT, or say with --out where the answers to the folder's own are to go.",
        )
    if maps and out is None:
        raise InputError("--out with --maps", "none", "temmed predict", "Say with --out where the table is to go.")
    from temmed.answering import Asker

    asker = Asker(checkpoint, folder, maps)
    if ask is not None:
        _print_reply(asker.ask(ask, [choice.strip() for choice in choices.split("|")], sequence, position, out))
    elif out is not None:
        typer.echo(f"Answered {asker.answer_own(out):,} questions.")
    if out is not None:
        typer.echo(f"Wrote {out}.")


@app.command()
def explain(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, or a checkpoint of one.", show_default=False)
    ],
    question: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Explain this question; may be given again.", show_default="drawn"),
    ] = None,
    number: Annotated[int, typer.Option(help="Of questions that are drawn.", min=1)] = 6,
    method: Annotated[
        Literal["attention", "grad_cam", "integrated_gradients"], typer.Option(help="How; see docs/explanations.md.")
    ] = "attention",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For the page.", show_default="RUN/explanations/METHOD")
    ] = None,
    subset: Annotated[Literal["train", "val", "test"], typer.Option(help="Whose questions.")] = "test",
    steps: Annotated[int, typer.Option(help="Of integrated_gradients: more are more exact.", min=2)] = 64,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    dataset: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the data are now.", show_default="where the run found them")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace explanations in the folder.")] = False,
) -> None:
    """Show what answers rest on: heat maps over the images in order of time, and when the model looked."""
    from temmed.explaining.run import explain_run

    page = explain_run(
        run,
        out,
        method,
        questions=question or (),
        number=number,
        subset=subset,
        steps=steps,
        seed=seed,
        dataset=dataset,
        overwrite=overwrite,
    )
    typer.echo(f"Open {page}.")


def _print_reply(reply: Reply) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from temmed.scorecard import console

    table = Table("sequence", "asked at", "answer", "probability", "evidence", box=box.SIMPLE_HEAD, pad_edge=False)
    for answer in reply.answers:
        cited = zip(answer.evidence, answer.evidence_times, strict=True)
        table.add_row(
            escape(answer.sequence_id),
            f"time point {answer.asked_at} ({answer.time:g} {answer.unit})",
            escape(answer.answer),
            f"{100 * answer.probability:.1f} %",
            ", ".join(f"time point {position} ({time:g} {answer.unit})" for position, time in cited),
        )
    console().print(table)
    if reply.unknown_words:
        typer.echo(f"Words that the model never saw in training: {', '.join(reply.unknown_words)}.")


def main() -> None:
    """Run the command: what ``temmed`` starts."""
    app(prog_name="temmed")


if __name__ == "__main__":
    main()

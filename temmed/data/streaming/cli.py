"""``temmed data shard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from temmed.timelines.console import counted, open_console, print_grid, progress_bar


def shard(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A timeline folder.", show_default=False)],
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", help="A folder to make, or a URL such as s3://bucket/name.", show_default=False),
    ],
    shard_size: Annotated[str, typer.Option(help="Bytes of a shard, about.")] = "64MB",
    compression: Annotated[str, typer.Option(help="Of the pixels: none or zstd.")] = "none",
    workers: Annotated[int | None, typer.Option(help="Processes.", min=1, show_default="all cores")] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="For a URL: where shards wait for their upload.", show_default="$TEMMED_DATA or data_cache"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace shards that are there.")] = False,
) -> None:
    """Write a timeline folder as shards: few large files, to be read from a URL or a shared disk by many machines."""
    from temmed.data.streaming.opening import default_cache
    from temmed.data.streaming.sizes import read_size
    from temmed.data.streaming.writing import write_shards

    with progress_bar() as progress:
        written = write_shards(
            folder,
            out,
            work or default_cache(),
            shard_size=read_size(shard_size, "--shard-size"),
            compression=compression,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    console = open_console()
    console.print(
        f"[bold green]Made[/] {out}: {counted(written.images, 'image')} of "
        f"{counted(written.sequences, 'sequence')} in {counted(written.shards, 'shard')}, {written.bytes / 1e6:,.1f} MB"
    )
    print_grid(console, [("train on it", f"python train.py data=folder data.root={out}")])

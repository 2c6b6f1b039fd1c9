"""A small corpus of planted identifiers, de-identified once."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from benchmarks.privacy_corpus import Corpus, plant
from temmed.cli import app
from temmed.timelines.privacy.run import Outcome, Request, deidentify
from temmed.timelines.privacy.stand_ins import StandIns
from temmed.timelines.privacy.text import Scrubber

KEY = "a secret"


@dataclass(frozen=True)
class Done:
    corpus: Corpus
    root: Path
    outcome: Outcome


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The corpus and what became of it. Tests must not write into either."""
    folder = tmp_path_factory.mktemp("privacy")
    corpus = plant(folder / "source", patients=12)
    outcome = deidentify(Request(corpus.root, folder / "clean", key=KEY))
    return Done(corpus, folder / "clean", outcome)


@pytest.fixture
def scrubber() -> Scrubber:
    return Scrubber(StandIns(KEY))


@pytest.fixture
def running() -> Callable[..., Result]:
    """Runs ``temmed data …`` as a user does."""

    def run(*arguments: object, **environment: Any) -> Result:
        return CliRunner().invoke(app, ["data", *map(str, arguments)], env=environment)

    return run


def everything(root: Path) -> list[str]:
    """All that a folder says: names, bytes in two encodings, and what is packed."""
    texts = []
    for path in sorted(root.rglob("*")):
        texts.append(path.relative_to(root).as_posix())
        if path.is_file():
            content = path.read_bytes()
            unpacked = [gzip.decompress(content)] if path.name.endswith(".gz") else []
            for part in (content, *unpacked):
                texts += [part.decode("utf-8", "ignore"), part.decode("latin-1")]
    return texts

"""How long ``train.py`` needs to answer before any work, against an empty Hydra application.

Help, the composed configuration and several kinds of mistake are timed in turn with the empty application, so that a
change in the machine's load meets both alike. The result is the median of the ratios of neighbouring runs.

Usage: python benchmarks/startup.py [--repeats 5] [--out FILE]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import ROOT, Ratio, in_turn, parser, report

LIMIT = 2.5
EMPTY_APPLICATION = """
import hydra


@hydra.main(version_base="1.3", config_path=None)
def main(config):
    pass


main()
"""
#: What is asked of ``train.py``, and which question to the empty application it is compared with.
QUESTIONS: dict[str, tuple[list[str], list[str]]] = {
    "help": (["--help"], ["--help"]),
    "configuration": (["--cfg", "job"], ["--cfg", "job"]),
    "wrong option": (["model=memory_fuson"], ["--cfg", "job"]),
    "wrong key": (["data.batchsize=8"], ["--cfg", "job"]),
    "wrong type": (["data.batch_size=many"], ["--cfg", "job"]),
    "wrong value": (["data.batch_size=0"], ["--cfg", "job"]),
    "wrong argument": (["+trainer.max_epoch=3"], ["--cfg", "job"]),
}


def seconds(command: list[str], folder: str) -> float:
    """Wall time of a command; its output is thrown away."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return time.perf_counter() - start


def measure(arguments: list[str], empty_arguments: list[str], repeats: int) -> dict[str, list[float]]:
    """Seconds of ``train.py`` and of the empty application, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.py")
        empty.write_text(EMPTY_APPLICATION)
        ours = [sys.executable, str(ROOT / "train.py"), *arguments]
        theirs = [sys.executable, str(empty), *empty_arguments]
        # The first run of each, which is not counted, writes bytecode.
        return in_turn({"ours": lambda: seconds(ours, folder), "empty": lambda: seconds(theirs, folder)}, repeats)


def main() -> int:
    """Measure everything, print a table, write JSON; 1 if a median is above the limit."""
    options = parser(__doc__, "startup").parse_args()
    figures = {name: measure(*asked, options.repeats) for name, asked in QUESTIONS.items()}
    ratios = [
        Ratio.of(f"{name}: seconds, of an empty application's", found["ours"], found["empty"], LIMIT, at_most=True)
        for name, found in figures.items()
    ]
    return report(options.out, ratios, seconds=figures)


if __name__ == "__main__":
    sys.exit(main())

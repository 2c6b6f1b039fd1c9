"""How long ``train.py`` needs to answer before any work, against an empty Hydra application.

Help, the composed configuration and several kinds of mistake are timed in turn with the empty application, so that a
change in the machine's load meets both alike. The result is the median of the ratios of neighbouring runs.

Usage: python benchmarks/startup.py [--runs 7] [--out benchmarks/results/startup.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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


def measure(arguments: list[str], empty_arguments: list[str], runs: int) -> dict[str, float]:
    """Ratios of ``train.py`` to the empty application over interleaved runs."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.py")
        empty.write_text(EMPTY_APPLICATION)
        ours = [sys.executable, str(ROOT / "train.py"), *arguments]
        theirs = [sys.executable, str(empty), *empty_arguments]
        seconds(ours, folder), seconds(theirs, folder)  # the first run of each writes bytecode
        pairs = [(seconds(ours, folder), seconds(theirs, folder)) for _ in range(runs)]
    ratios = [our / their for our, their in pairs]
    return {
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "seconds": statistics.median(our for our, _ in pairs),
        "empty_seconds": statistics.median(their for _, their in pairs),
    }


def main() -> int:
    """Measure everything, print a table, write JSON; 1 if a median is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "startup.json")
    options = parser.parse_args()
    results = {}
    print(f"{'question':<16} {'ratio':>6} {'min–max':>12} {'seconds':>8} {'empty':>6}")
    for name, (arguments, empty_arguments) in QUESTIONS.items():
        row = results[name] = measure(arguments, empty_arguments, options.runs)
        spread = f"{row['lowest']:.2f}–{row['highest']:.2f}"
        print(
            f"{name:<16} {row['ratio']:6.2f} {spread:>12} {row['seconds']:8.2f} {row['empty_seconds']:6.2f}", flush=True
        )
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"limit": LIMIT, "runs": options.runs, "results": results, **machine}
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    slow = [name for name, row in results.items() if row["ratio"] > LIMIT]
    if slow:
        print(f"Above {LIMIT}: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())

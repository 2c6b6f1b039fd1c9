"""Runs every benchmark in turn, prints all ratios in one table, and writes one JSON file.

A benchmark is a script of this folder that has a ``main`` and writes ``results/NAME.json`` with a list ``ratios``; each
also runs alone. The others go on when one fails; the exit code says whether all bars were met.

Usage: python benchmarks/run.py [NAME ...] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from harness import RESULTS, Ratio, print_ratios

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """The benchmarks of this folder."""
    scripts = (path for path in HERE.glob("*.py") if path != Path(__file__).resolve())
    return sorted(path.stem for path in scripts if "\ndef main(" in path.read_text(encoding="utf-8"))


def run(name: str, repeats: int | None) -> tuple[int, dict[str, object]]:
    """One benchmark in a process of its own: its exit code and what it wrote."""
    result = RESULTS / f"{name}.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / f"{name}.py"), "--out", str(result)]
    if repeats is not None:
        command += ["--repeats", str(repeats)]
    print(f"\n=== {name}", flush=True)
    code = subprocess.run(command, cwd=HERE.parent, check=False).returncode
    return code, json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}


def main() -> int:
    """Run, print, write; 1 if a benchmark failed or missed a bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(names())}; all by default")
    parser.add_argument("--repeats", type=int, help="interleaved measurements of each, where a benchmark has them")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(names())):
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(names())}")
    codes: dict[str, int] = {}
    ratios: list[Ratio] = []
    contents: dict[str, object] = {}
    for name in options.names or names():
        codes[name], content = run(name, options.repeats)
        contents[name] = content
        found = content.get("ratios", [])
        assert isinstance(found, list)
        ratios += [Ratio(f"{name}: {r['what']}", r["median"], r["low"], r["high"], r["bar"]) for r in found]
    print("\n=== all")
    print_ratios(ratios)
    for name, code in codes.items():
        if code:
            print(f"{name} failed or missed a bar (exit code {code})", file=sys.stderr)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "all.json").write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())

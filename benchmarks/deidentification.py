"""Identifiers left and clinical words lost, by TemMed and by dicognito, on the same planted files.

dicognito changes DICOM headers alone: other files are taken to stay as they are. Its row is therefore given twice, for
all planted identifiers and for those in DICOM headers only.

Usage: python benchmarks/deidentification.py [--patients 20] [--seed 0] [--out FILE]
"""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import Ratio, parser, report
from privacy_corpus import Corpus, Planted, lost_tokens, plant, survivors

_HEADERS = ("header", "private", "nested")


def texts(root: Path, pattern: str = "*") -> list[str]:
    """Everything that files say: names, bytes in two encodings, and what is packed."""
    found = []
    for path in sorted(root.rglob(pattern)):
        found.append(path.relative_to(root).as_posix())
        if path.is_file():
            content = path.read_bytes()
            unpacked = [gzip.decompress(content)] if path.name.endswith(".gz") else []
            for part in (content, *unpacked):
                found += [part.decode("utf-8", "ignore"), part.decode("latin-1")]
    return found


def contents(root: Path) -> list[str]:
    """As `texts`, of DICOM files and without their names."""
    return [
        path.read_bytes().decode(encoding, "ignore")
        for path in sorted(root.rglob("*.dcm"))
        for encoding in ("utf-8", "latin-1")
    ]


def measure(corpus: Corpus, root: Path, seconds: float) -> dict[str, Any]:
    """What is left and lost in a folder that was made from a corpus."""
    in_headers = [entry for entry in corpus.planted if entry.place in _HEADERS]
    left: list[Planted] = survivors(corpus.planted, texts(root))
    clinical = "\n".join(corpus.clinical.values())
    reports = [path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.txt"))]
    reports += [path.read_text(encoding="utf-8") for path in sorted(root.rglob("reports.csv"))]
    lost, total = lost_tokens(clinical, "\n".join(reports))
    return {
        "planted": len(corpus.planted),
        "left": len(left),
        "left_by_place": {place: sum(entry.place == place for entry in left) for place in {e.place for e in left}},
        "planted_in_headers": len(in_headers),
        "left_in_headers": len(survivors(in_headers, contents(root))),
        "clinical_tokens": total,
        "clinical_lost": lost,
        "seconds": round(seconds, 1),
    }


def by_temmed(source: Path, target: Path) -> None:
    """De-identify with TemMed."""
    from temmed.timelines.privacy.run import Request, deidentify

    outcome = deidentify(Request(source, target, key="benchmark"))
    assert not outcome.left, outcome.left


def by_dicognito(source: Path, target: Path) -> None:
    """De-identify the DICOM files with dicognito and leave the others."""
    import pydicom
    from dicognito.anonymizer import Anonymizer

    shutil.copytree(source, target)
    anonymizer = Anonymizer(seed="benchmark")
    for path in sorted(target.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        anonymizer.anonymize(dataset)
        dataset.save_as(path)


def main() -> int:
    """Measure, print a table, write the numbers; 1 if an identifier or too many clinical words were left or lost."""
    options = parser(__doc__, "deidentification", repeats=1)
    options.add_argument("--patients", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        corpus = plant(Path(folder, "source"), arguments.patients, arguments.seed)
        for name, tool in (("temmed", by_temmed), (f"dicognito {version('dicognito')}", by_dicognito)):
            start = time.perf_counter()
            tool(corpus.root, Path(folder, name.split()[0]))
            results[name] = measure(corpus, Path(folder, name.split()[0]), time.perf_counter() - start)
    print("| tool | identifiers left, all files | left, DICOM headers | clinical words lost |\n|---|---|---|---|")
    for name, row in results.items():
        print(
            f"| {name} | {row['left']:,} of {row['planted']:,} | {row['left_in_headers']:,} of "
            f"{row['planted_in_headers']:,} | {row['clinical_lost']:,} of {row['clinical_tokens']:,} |"
        )
    ours = results["temmed"]
    ratios = [
        Ratio.of("identifiers left, of those planted", [ours["left"]], [ours["planted"]], 0.0, at_most=True),
        Ratio.of("clinical words lost, of all", [ours["clinical_lost"]], [ours["clinical_tokens"]], 0.01, at_most=True),
    ]
    return report(arguments.out, ratios, tools=results)


if __name__ == "__main__":
    sys.exit(main())

"""Valid sources of which the fuzz test breaks one file: Parquet tables, and the tables of cohorts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from .conftest import VolumeWriter
from .test_cohorts import ADNI, ADNI_ROWS, COMPARED, COMPARED_ROWS
from .test_lumiere import HEADER, PEOPLE, ROWS
from .xray import test_chextemporal as chextemporal
from .xray.conftest import Mimic, items, picture, table
from .xray.test_imagenome import GOLD, SILVER, relation


@dataclass(frozen=True)
class Seed:
    """A valid source.

    Attributes:
        importer: what reads it.
        folder: where it lies.
        source: what is imported, below the folder.
        changed: the files of which one is changed, below the folder.
        sound: a file that can be imported without the changed one, below the folder.
        asked: whether the folder has questions.csv and events.csv.
    """

    importer: str
    folder: Path
    source: str
    changed: tuple[str, ...]
    sound: str | None = None
    asked: bool = False


def parquet_seeds(root: Path) -> list[Seed]:
    """A mapped table, pairs with boxes, and questions about frames."""
    rows = [{"who": "P1", "day": f"2020-0{visit}-01", "file": f"{visit}.png", "years": 40} for visit in (1, 2, 3)]
    for row in rows:
        picture(root / "mapped" / str(row["file"]))
    pd.DataFrame(rows).to_parquet(root / "mapped" / "visits.parquet", index=False)
    columns = {"patient": "who", "time": "day", "path": "file"}
    content = {"table": "visits.parquet", "modality": "mri", "columns": columns, "attributes": {"age": "years"}}
    (root / "mapped" / "map.yaml").write_text(yaml.safe_dump(content))
    pairs = [chextemporal.pair(f"patient{number}", "Stable") for number in range(2)]
    chextemporal.write(root / "pairs", *pairs)
    boxed = [chextemporal.boxed(pair, [[2, 2, 7, 7]], [[1, 1, 5, 5]]) for pair in pairs]
    items(root / "pairs" / "gold_bboxes.parquet", boxed)
    for name in ("a", "b"):
        picture(root / "frames" / f"{name}.png")
    about = {"question_id": "1", "system": "s", "organ": "o", "keyword": "k", "modality": "MRI", "video_id": "v"}
    asked = {"question": "What?", "options": ["x", "y"], "image": ["a.png", "b.png"], "answer": "B"}
    items(root / "frames" / "test.parquet", [about | asked])
    return [
        Seed("table", root / "mapped", "map.yaml", ("visits.parquet",)),
        Seed("chextemporal", root / "pairs", ".", ("gold_progression_pairs.parquet", "gold_bboxes.parquet")),
        Seed("medframeqa", root / "frames", ".", ("test.parquet",)),
    ]


def cohort_seeds(root: Path, volume: VolumeWriter) -> list[Seed]:
    """LUMIERE, OASIS-3, ADNI, NLST and both parts of Chest ImaGenome."""
    return [_lumiere(root / "lumiere", volume), *_cohorts(root, volume), *_imagenome(root)]


def _lumiere(folder: Path, volume: VolumeWriter) -> Seed:
    for visit in ("week-000-1", "week-012", "week-044"):
        volume(folder / "Imaging" / "Patient-001" / visit / "CT1.nii.gz")
    texts = {"LUMIERE-ExpertRating-v202211.csv": HEADER + ROWS, "LUMIERE-Demographics_Pathology.csv": PEOPLE}
    return Seed("lumiere", folder, ".", _written(folder, texts))


def _cohorts(root: Path, volume: VolumeWriter) -> list[Seed]:
    for day in ("0129", "2500"):
        name = f"OAS30001_MR_d{day}"
        volume(root / "oasis3" / name / "anat2" / f"sub-OAS30001_ses-d{day}_T1w.nii.gz")
    oasis = {
        "OASIS3_MR.csv": "OASISID,OASIS_session_label,days_to_visit\nOAS30001,OAS30001_MR_d2500,2510\n",
        "OASIS3_UDSb4_cdr.csv": "OASISID,OASIS_session_label,days_to_visit,CDRTOT\n"
        "OAS30001,OAS30001_UDSb4_d0129,129,0\nOAS30001,OAS30001_UDSb4_d2510,,0.5\n",
        "OASIS3_demographics.csv": "OASISID,AgeatEntry,GENDER\nOAS30001,64.5,2\n",
    }
    for image in ("35475", "400"):
        volume(root / "adni" / "011_S_0002" / f"I{image}" / f"ADNI_011_S_0002_I{image}.nii.gz")
    for year in (0, 1, 2):
        volume(root / "nlst" / "100012" / f"T{year}" / "standard.nii.gz")
    people = "pid,age,gender,scr_days0,scr_days1,scr_days2\n100012,61,1,5,372,740\n"
    nlst = {"nlst_780_ctabc_idc.csv": COMPARED + COMPARED_ROWS, "nlst_780_prsn_idc.csv": people}
    return [
        Seed("oasis3", root / "oasis3", ".", _written(root / "oasis3", oasis)),
        Seed("adni", root / "adni", ".", _written(root / "adni", {"ADNIMERGE.csv": ADNI + ADNI_ROWS})),
        Seed("nlst", root / "nlst", ".", _written(root / "nlst", nlst)),
    ]


def _imagenome(root: Path) -> list[Seed]:
    found = []
    for name, path in (("imagenome", SILVER), ("imagenome-gold", GOLD)):
        archive = Mimic(root / name)
        for study, date in (("1", "21800101"), ("2", "21800201")):
            archive.study("10000001", study, date, report="Clear.")
        archive.write()
        row = relation("2", "1", "improved") | {"current_image_id": "d2", "previous_image_id": "d1"}
        table(root / name / path, [row, row | {"relationship_id": "other", "comparison": "comparison|yes|no change"}])
        found.append(Seed(name, root / name, ".", (str(path),)))
    return found


def _written(folder: Path, texts: dict[str, str]) -> tuple[str, ...]:
    for name, text in texts.items():
        (folder / name).write_text(text)
    return tuple(texts)

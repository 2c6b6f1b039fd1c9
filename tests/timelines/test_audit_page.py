from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from temmed.cli import app
from temmed.timelines.audit import audit, has_errors
from temmed.timelines.audit_page import write_audit_page
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split, save_split
from temmed.timelines.synthetic.generate import generate

Tables = dict[str, pd.DataFrame]


def test_the_page_shows_the_worst_cases_and_loads_nothing(
    root: Path, tables: Tables, replace_table: Callable[..., None], tmp_path: Path
) -> None:
    tables["timepoints"].loc[3, "time"] = 10.0
    tables["reports"].loc[0, "report_id"] = "<script>r</script>"
    tables["reports"].loc[0, "time"] = -20.0
    for name in ("timepoints", "reports"):
        replace_table(root, name, tables[name])
    copy = np.load(root / "images" / "s1_t1.npy")
    copy[1] = np.load(root / "images" / "s0_t1.npy")[2]
    np.save(root / "images" / "s1_t1.npy", copy)
    (root / "images" / "s3_t1.npy").write_bytes(b"\x93NUMPY")
    html, findings = tmp_path / "sub" / "page.html", tmp_path / "found.json"
    arguments = ["data", "audit", str(root), "--html", str(html), "--json-file", str(findings)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    page = html.read_text()
    assert "Not fit for use" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)|<script|@import|url\(", page)
    order = page.split("</i></h3>")
    shown = {re.findall(r"</span>(\w+)<i>", part)[-1]: order[place + 1] for place, part in enumerate(order[:-1])}
    assert shown["order"].count("<img") == 8, "both channels of four time points; the one at fault has no image"
    assert shown["order"].count('frame marked"') == 1
    assert shown["near_duplicate_images"].count("<img") == 4
    assert "images/s3_t1.npy: a truncated or damaged file" in shown["unreadable_image"]
    told = json.loads(findings.read_text())
    assert {one["rule"] for one in told["findings"]} == set(shown)
    (near,) = [one for one in told["findings"] if one["rule"] == "near_duplicate_images"]
    assert near["views"][0]["frames"] == [["s0", 2], ["s1", 1]]
    (balance,) = [one for one in told["findings"] if one["rule"] == "balance"]
    assert sum(row["count"] for row in balance["data"]) == 12
    assert set(balance["data"][0]) == {"template", "horizon", "answer", "count"}


def test_the_page_of_a_folder_without_usable_tables_is_still_written(root: Path, tmp_path: Path) -> None:
    for name in ("sequences", "questions"):
        (root / f"{name}.parquet").unlink()
    timeline = Timeline.open(root, validate=False)
    assert "Not fit for use" in write_audit_page(timeline, audit(timeline), tmp_path / "page.html").read_text()


@pytest.mark.parametrize(("dims", "seed"), [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1)])
def test_a_synthetic_set_is_fit_for_use(dims: int, seed: int, tmp_path: Path) -> None:
    timeline = generate(tmp_path / "set", patients=24, seed=seed, size=32 if dims == 2 else 16, spatial_dims=dims,
                        workers=1, progress=False)  # fmt: skip
    save_split(make_split(timeline, seed=seed), timeline.root)
    findings = audit(timeline)
    assert not has_errors(findings), findings
    assert {one.rule for one in findings if one.severity == "warning"} <= {"guessable"}, findings

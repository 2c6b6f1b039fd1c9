"""Boxes: overlap against a count of pixels, and the benchmarks that are scored by it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from temmed.errors import InputError
from temmed.metrics.functional.boxes import box_iou

from .conftest import Bench, rows, value


def corners(rng: np.random.Generator) -> list[int]:
    x, y = np.sort(rng.integers(0, 12, (2, 2)), axis=1)
    return [x[0], y[0], x[1], y[1]]


def by_pixels(box: list[int], other: list[int]) -> float:
    first, second = ({(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (box, other))
    return len(first & second) / len(first | second) if first | second else 0.0


def test_overlap_is_that_of_pixels() -> None:
    rng = np.random.default_rng(0)
    pairs = [(corners(rng), corners(rng)) for _ in range(1000)]
    expected = [by_pixels(*pair) for pair in pairs]
    found = box_iou([box for box, _ in pairs], [other for _, other in pairs])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert 0.2 < np.mean(found > 0) < 0.9


def test_overlap_with_an_unknown_box_is_unknown() -> None:
    assert np.isnan(box_iou([0, 0, 1, 1], [np.nan] * 4))


def medsg(bench: Bench) -> None:
    for number, (task, size) in enumerate([("concept", [336, 336]), ("multi_view", [40, 30]), ("concept", [336, 336])]):
        truth = [0, 0, 20, 20]
        bench.ask(f"q{number}", f"medsg_{task}", json.dumps(truth), None, task="grounding")
        record = {"question_id": f"q{number}", "task": task, "size": size, "answer": truth, "position": 1}
        bench.records.setdefault("items", []).append(record)


def test_medsg_bench_by_task_in_the_items_own_pixels(bench: Bench) -> None:
    medsg(bench)
    # Cut off at 30 pixels of height, the second box is 20 x 30, of which 20 x 20 are right.
    said = {"q0": "[0, 0, 20, 10]", "q1": "The box is (0,0,20,99).", "q2": "top left"}
    outcome = bench.score("medsg_bench", rows(dict(said)))
    prefix = "medsg_bench/grounding"
    assert value(outcome, f"{prefix}/mean_iou") == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert [value(outcome, f"{prefix}/iou_at_{bound}") for bound in (0.3, 0.5, 0.7)] == pytest.approx([2 / 3, 2 / 3, 0])
    assert value(outcome, f"{prefix}/mean_iou/task=concept") == pytest.approx(1 / 4)
    assert outcome.malformed == {"q2": "top left"}


@pytest.mark.parametrize("said", ["[1, 2, 3]", "[5, 5, 2, 9]", "[400, 400, 500, 500]", "[0, 0, 1, 1] or [2, 2, 3, 3]"])
def test_a_text_without_one_box_is_named(bench: Bench, said: str) -> None:
    medsg(bench)
    outcome = bench.score("medsg_bench", rows({"q0": said, "q1": "[0, 0, 20, 20]", "q2": "[0, 0, 20, 20]"}))
    assert outcome.malformed == {"q0": said}
    assert value(outcome, "medsg_bench/grounding/mean_iou") == pytest.approx(2 / 3)


def boxed(bench: Bench) -> dict[str, Any]:
    bench.ask("q0", "chextemporal_edema", "new", ["stable", "worse", "improved", "new", "resolved"], finding_id="f0")
    place = {"position": 1, "channel": "frontal"}
    bench.tables["findings"] = [{"finding_id": f, "sequence_id": "s0", "label": "edema"} for f in ("f0", "f1")]
    bench.tables["boxes"] = [
        {"finding_id": f, **place, "x1": 0.0, "y1": 0.0, "x2": 4.0, "y2": 4.0} for f in ("f0", "f1")
    ]
    return {"finding_id": "f0", **place, "x1": 0.0, "y1": 0.0, "x2": 4.0, "y2": 3.0}


def test_chextemporal_boxes_that_are_not_found_overlap_nothing(bench: Bench) -> None:
    box = boxed(bench)
    outcome = bench.score("chextemporal", rows({"q0": "new"}), boxes=[box])
    assert value(outcome, "chextemporal/boxes/mean_iou") == pytest.approx((3 / 4 + 0) / 2)


def test_chextemporal_boxes_of_other_findings_are_refused(bench: Bench) -> None:
    box = boxed(bench)
    with pytest.raises(InputError, match="1 of others"):
        bench.score("chextemporal", rows({"q0": "new"}), boxes=[box, box | {"finding_id": "f2"}])

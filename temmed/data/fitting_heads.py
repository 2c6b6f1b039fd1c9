"""What task heads need to have fitted to the train subset, beside what every model needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temmed.data.boxes import fit_boxes
from temmed.data.fitted import Fitted
from temmed.data.report_targets import fit_reports
from temmed.data.settings import DataSettings
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split


def fit_heads(
    fitted: Fitted, heads: Mapping[str, Mapping[str, Any]], timeline: Timeline, split: Split, settings: DataSettings
) -> Fitted:
    """Add what the heads with a weight above 0 need.

    Args:
        fitted: what every model needs.
        heads: the group ``model.heads``.
        timeline: the data.
        split: whose train subset is used, and nothing else.
        settings: the group ``data``.

    Raises:
        InputError: the data has nothing for a head to learn from.
    """
    wanted = {name: head for name, head in heads.items() if head["weight"] > 0}
    if (report := wanted.get("report")) is not None:
        sizes = int(report["vocabulary_size"]), int(report["longest"])
        fitted = fit_reports(fitted, timeline, split, report["name"], *sizes)
    return fit_boxes(fitted, timeline, split, settings) if "box" in wanted else fitted

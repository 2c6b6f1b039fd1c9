from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temmed.evaluation.cases import contrasts, shown_positions, typical_cases
from temmed.evaluation.compare import Comparison, compare_runs
from temmed.evaluation.report import to_html, write_comparison

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Outline(HTMLParser):
    """Checks that elements are closed in order, and collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def comparison(runs: Path) -> Comparison:
    return compare_runs([runs], resamples=50, permutations=100)


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    return to_html(comparison)


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    return parser


def test_the_page_is_well_formed_and_links_lead_somewhere(outline: Outline) -> None:
    assert outline.open == []
    links = [address for address in outline.addresses if address.startswith("#")]
    assert links
    assert {link[1:] for link in links} <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))


def test_the_page_needs_no_network_and_no_script(page: str, outline: Outline) -> None:
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in outline.addresses)
    assert "script" not in outline.tags
    assert "link" not in outline.tags
    assert not re.search(r"https?://|@import|url\(", page)


def test_the_page_shows_every_row_and_the_pictures(page: str, outline: Outline, comparison: Comparison) -> None:
    for row in comparison.rows:
        assert row.label in page
    assert outline.tags.count("img") > 20
    assert page.count('class="chart"') == 1
    assert "no image" in page or all(frame.images for case in typical_cases(comparison) for frame in case.frames)


def test_what_users_write_is_text_and_not_markup(comparison: Comparison) -> None:
    questions = comparison.benchmark.questions
    kept = questions["prompt"].copy()
    questions["prompt"] = "<script>alert(1)</script> & more"
    try:
        page = to_html(comparison)
    finally:
        questions["prompt"] = kept
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page


def test_all_files_are_written_and_the_same_twice(comparison: Comparison, tmp_path: Path) -> None:
    first = write_comparison(comparison, tmp_path / "out")
    content = [path.read_bytes() for path in first]
    assert [path.name for path in first] == ["compare.html", "compare.md", "compare.csv"]
    assert [path.read_bytes() for path in write_comparison(comparison, tmp_path / "out")] == content


def test_one_question_of_each_template(comparison: Comparison) -> None:
    cases = typical_cases(comparison)
    assert sorted(case.template for case in cases) == sorted(comparison.benchmark.questions["template"].unique())
    for case in cases:
        question = comparison.benchmark.questions.set_index("question_id").loc[case.question_id]
        assert [frame.position for frame in case.frames] == list(range(question["asked_at"] + 1))
        evidence = [frame.position for frame in case.frames if frame.is_evidence]
        assert evidence == sorted(question["evidence"])
        assert [frame.is_asked for frame in case.frames].index(True) == question["asked_at"]
        assert [said.label for said in case.said] == [group.label for group in comparison.groups]
        for said in case.said:
            assert said.is_right is None or said.is_right == (said.answer == case.truth)
    values = [case for case in cases if case.task == "measurement"]
    assert all("%" in said.answer for case in values for said in case.said)


def test_contrasts_are_what_they_say(comparison: Comparison) -> None:
    forward, backward = contrasts(comparison, limits=(5, 2))
    static, best = comparison.groups[0], comparison.groups[2]
    assert (forward.right, forward.wrong) == ("memory_fusion", "static")
    assert forward.count == np.sum((best.accuracy == 1) & (static.accuracy == 0))
    assert backward.count == np.sum((best.accuracy == 0) & (static.accuracy == 1))
    assert len(forward.cases) == 5
    for case in forward.cases:
        assert [(said.label, said.is_right) for said in case.said] == [("static", False), ("memory_fusion", True)]
    # Spread over templates and horizons before any is shown twice.
    assert len({(case.template, case.horizon) for case in forward.cases}) == 5


def test_without_a_reference_nothing_parts(runs: Path) -> None:
    comparison = compare_runs([runs / "memory_fusion"], resamples=20, permutations=50)
    assert contrasts(comparison) == []
    assert "Where models part" not in to_html(comparison)


@given(st.integers(0, 300), st.lists(st.integers(0, 300), max_size=4), st.integers(6, 12))
def test_shown_positions_hold_what_is_needed(asked_at: int, evidence: list[int], limit: int) -> None:
    evidence = [position for position in evidence if position <= asked_at]
    shown = shown_positions(asked_at, evidence, limit)
    assert {*evidence, asked_at} <= set(shown) <= set(range(asked_at + 1))
    assert shown == sorted(set(shown))
    assert len(shown) <= limit
    if asked_at < limit:
        assert shown == list(range(asked_at + 1))

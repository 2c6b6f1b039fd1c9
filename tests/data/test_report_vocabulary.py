"""The tokens of reports: finitely many, invertible, fitted the same way each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from temmed.data.report_vocabulary import LEAST_SIZE, ReportVocabulary
from temmed.errors import InputError

REPORTS = [
    "MRI of the brain, 184 days after the first examination. The lesion in the left frontal lobe, 12 mm, is new.",
    "MRI of the brain, 92 days after the first examination. The lesion in the left frontal lobe, 15 mm, is larger.",
]
VOCABULARY = ReportVocabulary.fit(REPORTS, size=300, longest=200)


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    ids = VOCABULARY.encode(text)
    assert all(0 <= token < len(VOCABULARY) for token in ids)
    assert VOCABULARY.begin not in ids
    assert VOCABULARY.end not in ids
    assert VOCABULARY.decode(ids) == VOCABULARY.normalise(text)


@settings(max_examples=50, deadline=None)
@given(st.decimals(min_value=0, max_value=10**9, places=2))
def test_a_number_is_written_digit_by_digit(number: object) -> None:
    ids = VOCABULARY.encode(f"{number}")
    assert VOCABULARY.decode(ids) == f"{number}"
    assert len(ids) == len(f"{number}")


@pytest.mark.parametrize("text", [*REPORTS, "Size <end> 12", "<begin>", "Größe ½ µm", "a\n\n b\t"])
def test_words_of_its_own_are_nothing_special_in_a_text(text: str) -> None:
    assert VOCABULARY.decode(VOCABULARY.target(text)) == VOCABULARY.normalise(text)


def test_normalising_leaves_a_report_as_it_is_but_for_white_space() -> None:
    assert VOCABULARY.normalise(REPORTS[0]) == REPORTS[0]
    assert VOCABULARY.normalise("  The nodule,\n12 mm. ") == "The nodule, 12 mm."


def test_the_same_reports_give_the_same_vocabulary() -> None:
    assert ReportVocabulary.fit(iter(REPORTS), size=300, longest=200) == VOCABULARY
    assert LEAST_SIZE < len(VOCABULARY) <= 300


def test_frequent_words_are_short() -> None:
    assert len(VOCABULARY.encode(REPORTS[0])) < len(REPORTS[0]) / 2


def test_a_long_report_is_cut() -> None:
    short = ReportVocabulary.fit(REPORTS, size=LEAST_SIZE, longest=10)
    assert short.decode(short.target(REPORTS[0])) == REPORTS[0][:10]
    assert short.target("mm") == [*short.encode("mm"), short.end]


def test_a_vocabulary_of_a_folder_is_that_of_hugging_face(tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=VOCABULARY._tokenizer, eos_token="<end>")
    tokenizer.save_pretrained(tmp_path)
    loaded = ReportVocabulary.load(str(tmp_path), longest=50)
    assert loaded.encode(REPORTS[0]) == tokenizer(REPORTS[0], add_special_tokens=False)["input_ids"]
    assert loaded.decode(loaded.target(REPORTS[1])) == REPORTS[1]
    assert (loaded.begin, loaded.end) == (VOCABULARY.end, VOCABULARY.end)


def test_no_such_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.heads\.report\.name"):
        ReportVocabulary.load(str(tmp_path / "nothing"), longest=50)

"""TemMed-Bench: what changed between two chest X-rays of CheXpert Plus; questions, reports, and pairs to select.

The order of the two is known and their dates are not: time is ordinal. Each test item is a sequence of its own. The
pairs of the knowledge corpus become the train subset. Where ``df_chexpert_plus_240401.csv`` is at hand, it gives sex,
age, the reports that the files without ``_Final`` lack, and a check of the order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from temmed.timelines.importers._items import (
    Item,
    check_images,
    check_used,
    file_in,
    find_image,
    needed_file,
    read_items,
    scan_rows,
)
from temmed.timelines.importers._series import Series, plan_series
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers._tables import Row, find_tables
from temmed.timelines.importers.plan import Mapper, Options, Plan, PlannedSequence, folder_of
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.rows import question_row
from temmed.timelines.importers.studies import Place, add_report

_TEST = ("TestSet_VQA_ReportGeneration_Final.json", "TestSet_VQA_ReportGeneration.json")
_SELECTED = "TestSet_SelectedVQA_2000.json"
_PAIRS = "TestSet_ImagePairSelection.json"
_CORPUS = ("TrainSet_KnowledgeCorpus_Final.json", "TrainSet_KnowledgeCorpus.json")
_ARCHIVE = "df_chexpert_plus_*.csv"
_IMAGES = ("historical_image_path", "image_path")
_REPORT = "condition_changes_report"
_COLUMNS = ("path_to_image", "patient_report_date_order", "section_impression", "age", "sex")
_PATIENT = re.compile(r"(?:^|/)(patient\d+)/")
_CHOICES = ("Yes", "No")
_SENTENCE = re.compile(r"(^|[.!?]\s*)([a-z])")


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the items of TemMed-Bench.

    Args:
        source: the folder of its JSON files.
        options: what the user asked for; ``images`` is the folder of CheXpert Plus, with ``PNG`` in it or not.
        run: of no use here.

    Raises:
        InputError: a file is missing or malformed, or no image is there.
    """
    result = Plan()
    root = options.images or folder_of(source)
    path = needed_file(source, *_TEST)
    tests = read_items(path, (*_IMAGES, "VQA_Final"))
    corpus_file = file_in(source, *_CORPUS)
    corpus = read_items(corpus_file, _IMAGES) if corpus_file else []
    series = {id(item): _series(item, root) for item in [*tests, *corpus]}
    planned = plan_series(series.values(), result, options, "historical before current, as the benchmark says")
    check_used(result, path, "item")
    check_images(result, root)
    used = [item for item in [*tests, *corpus] if series[id(item)] in planned]
    known = _archive_rows([root, folder_of(source)], used)
    sequences = {id(item): planned[series[id(item)]] for item in used}
    _check_order(used, known, result)
    _add_patients(used, sequences, known, result)
    _add_reports(used, sequences, known, result)
    _number_reports(tests, sequences, result)
    _ask(tests, sequences, file_in(source, _SELECTED), result)
    _add_selection(tests, sequences, file_in(source, _PAIRS), result)
    add_split(result, _subsets(sequences, tests, corpus))
    return result


def _subsets(
    sequences: Mapping[int, PlannedSequence], tests: Sequence[Item], corpus: Sequence[Item]
) -> Iterable[tuple[PlannedSequence, str]]:
    for items, subset in ((tests, "test"), (corpus, "train")):
        yield from ((sequences[id(item)], subset) for item in items if id(item) in sequences)


def _series(item: Item, root: Path) -> Series:
    paths = [item.needed(field) for field in _IMAGES]
    patients = {match and match[1] for match in map(_PATIENT.search, paths)}
    patient = patients.pop()
    if patients or patient is None:
        raise item.wrong("image_path", "two paths of one patient, such as train/patient00001/study2/view1_frontal.png")
    folder = root / "PNG" if (root / "PNG").is_dir() else root
    return Series(patient, tuple(find_image(path, folder) for path in paths), "cxr", "frontal")


def _archive_rows(folders: Iterable[Path], items: Iterable[Item]) -> dict[str, Row]:
    """The rows of CheXpert Plus about the images used, by the image's path without its ending."""
    tables = [file for folder in folders if folder.is_dir() for file in find_tables(sorted(folder.iterdir()), _ARCHIVE)]
    wanted = {_stem(item.needed(field)) for item in items for field in _IMAGES}
    rows = scan_rows(tables[0], _COLUMNS) if tables else ()
    return {stem: row for row in rows if (stem := _stem(row.needed("path_to_image"))) in wanted}


def _stem(path: str) -> str:
    """A path as both tables have it: from ``train`` or ``valid`` on, without the ending that differs between them."""
    return re.sub(r"\.(png|jpe?g)$", "", path.removeprefix("PNG/"), flags=re.IGNORECASE)


def _check_order(items: Iterable[Item], known: Mapping[str, Row], result: Plan) -> None:
    """Tell how many pairs the archive has in another order; the benchmark's own questions are about its own."""
    against = 0
    for item in items:
        rows = [known.get(_stem(item.needed(field))) for field in _IMAGES]
        orders = [row.number_in("patient_report_date_order") for row in rows if row]
        earlier, later = orders if len(orders) == 2 else (None, None)
        against += earlier is not None and later is not None and earlier >= later
    if against:
        result.notes.append(
            f"{against:,} pairs are in another order in CheXpert Plus (patient_report_date_order): their questions are "
            "kept as the benchmark asks them"
        )


def _add_patients(
    items: Iterable[Item], sequences: Mapping[int, PlannedSequence], known: Mapping[str, Row], result: Plan
) -> None:
    about: dict[str, dict[str, Any]] = {}
    for item in items:
        row = known.get(_stem(item.needed("image_path")))
        if row is not None:
            about.setdefault(sequences[id(item)].patient_id, {"sex": row.text("sex"), "age": row.age_in("age")})
    for patient in result.patients:
        patient |= about.get(patient["patient_id"], {})


def _add_reports(
    items: Iterable[Item], sequences: Mapping[int, PlannedSequence], known: Mapping[str, Row], result: Plan
) -> None:
    """The report of each current image: of the changes, or the impression of CheXpert Plus."""
    told: set[str] = set()
    for item in items:
        row = known.get(_stem(item.needed("image_path")))
        text = item.text(_REPORT) or (_as_sentences(row.text("section_impression")) if row else None)
        place = Place(sequences[id(item)], 1)
        if text and place.report_id not in told:
            told.add(place.report_id)
            add_report(result, place, text)


def _number_reports(tests: Sequence[Item], sequences: Mapping[int, PlannedSequence], result: Plan) -> None:
    """Keep the benchmark's number of each report."""
    reported = {row["report_id"] for row in result.tables.get("reports", [])}
    for test, item in enumerate(tests):
        report = Place(sequences[id(item)], 1).report_id if id(item) in sequences else None
        if report in reported:
            result.records.setdefault("reports", []).append({"id": test, "report_id": report})


def _as_sentences(text: str | None) -> str | None:
    r"""A section as the benchmark writes it: one line, lower case, each sentence with a capital.

    Examples:
        >>> _as_sentences("1. NEW  EFFUSION.\n no EDEMA")
        '1. New effusion. No edema'
    """
    if text is None:
        return None
    return _SENTENCE.sub(lambda match: match[1] + match[2].upper(), " ".join(text.split()).lower())


def _ask(tests: Sequence[Item], sequences: Mapping[int, PlannedSequence], selected: Path | None, result: Plan) -> None:
    """The questions that the benchmark selected, or all where that file is not there."""
    if selected is None:
        result.notes.append(f"{_SELECTED} is not there: all questions are imported, not the 2,000 that are scored")
        numbers = [(test, number) for test in range(len(tests)) for number in range(len(_asked(tests[test])))]
    else:
        numbers = []
        for item in read_items(selected, ("img_id", "question_id")):
            test = item.index("img_id", len(tests))
            numbers.append((test, item.index("question_id", len(_asked(tests[test])))))
    for test, number in numbers:
        item = tests[test]
        if id(item) not in sequences:
            continue
        entry = _asked(item)[number]
        identifier = f"{test}_{number}"
        row = question_row(
            identifier,
            sequences[id(item)],
            1,
            task="choice",
            template="temmed_bench_vqa",
            prompt=_field(item, entry, "VQA_question"),
            choices=_CHOICES,
            answer=_answer(item, entry),
            evidence=[0, 1],
        )
        result.add("questions", **row)
        record = {"img_id": test, "question_id": number, "label_answer_vqa": entry["VQA_answer"]}
        result.records.setdefault("vqa", []).append({"temmed_question_id": identifier} | record)


def _asked(item: Item) -> Sequence[Any]:
    found = item.fields["VQA_Final"]
    if not isinstance(found, list):
        raise item.wrong("VQA_Final", "a list of questions")
    return found


def _field(item: Item, entry: Any, name: str) -> str:
    text = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise item.wrong("VQA_Final", f"questions with {name}")
    return text.strip()


def _answer(item: Item, entry: Any) -> str:
    said = _field(item, entry, "VQA_answer").rstrip(". ").capitalize()
    if said not in _CHOICES:
        raise item.wrong("VQA_Final", "answers Yes or No")
    return said


def _add_selection(
    tests: Sequence[Item], sequences: Mapping[int, PlannedSequence], path: Path | None, result: Plan
) -> None:
    """Which of three pairs shows a change: kept for scoring, as no single sequence holds the question."""
    if path is None:
        return
    for item in read_items(path, ("condition_change", "option", "right_option")):
        options = item.fields["option"]
        if not isinstance(options, dict) or item.needed("right_option") not in options:
            raise item.wrong("option", "pairs by letter, with the right one among them")
        pairs = {}
        for letter, index in options.items():
            if not isinstance(index, int) or not 0 <= index < len(tests):
                raise item.wrong("option", f"whole numbers from 0 to {len(tests) - 1}")
            pairs[letter] = sequences.get(id(tests[index]))
        if all(pairs.values()):
            shown = {letter: sequence.sequence_id for letter, sequence in pairs.items() if sequence}
            record = {name: item.fields[name] for name in ("condition_change", "option", "right_option")}
            result.records.setdefault("pair_selection", []).append(
                {"data_idx": item.number - 1} | record | {"sequences": shown}
            )


IMPORTER = Importer(
    name="temmed-bench",
    summary="TemMed-Bench: changes between two chest X-rays of CheXpert Plus; questions, reports, pair selection.",
    needs=f"the folder with {_TEST[0]} (or without _Final); with --images the folder of CheXpert Plus with PNG/",
    plan=plan,
)

"""MI-CXR: questions about five chest X-rays of one patient, with five choices each.

``T1`` … ``T5`` in questions and choices are positions 0 … 4 here. Where the metadata table of MIMIC-CXR-JPG is at hand,
the days between the images come from it.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from string import ascii_uppercase

from temmed.timelines.importers._items import Item, check_images, check_used, find_image, needed_file, read_items
from temmed.timelines.importers._mimic import MODALITY, TIMING, Archive, image_id, open_archive
from temmed.timelines.importers._series import Series, choices_of, plan_series
from temmed.timelines.importers._splits import add_split
from temmed.timelines.importers._tables import LeftOut
from temmed.timelines.importers.plan import LENGTHS, Mapper, Options, Plan, PlannedSequence, slug
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.rows import question_row

_FILE = "micxr_test.jsonl"
_FIELDS = ("qid", "group_type", "qtype", "images", "question", "choices", "answer")
_PATIENT = re.compile(r"(?:^|/)p(\d{3,})/")
_MOMENT = re.compile(r"\bT([1-9])\b")
#: Answers that say that there is no such event. "None of the above" is none: what it denies are the other choices.
_NEVER = re.compile(r"(there is no|no such|no change|never|none of the (time ?points|intervals|images|visits))\b", re.I)
_LOCALISE, _SUMMARISE = "TEL", "GTS"
_TASKS = {_LOCALISE: "event_choice", "ICR": "change_choice", _SUMMARISE: "trajectory_choice"}


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the items of MI-CXR.

    Args:
        source: the file of items, or its folder.
        options: what the user asked for; ``images`` is the folder of MIMIC-CXR-JPG.
        run: of no use here.

    Raises:
        InputError: the file is missing or malformed, or no image is there.
    """
    result, left = Plan(), LeftOut()
    path = source if source.is_file() else needed_file(source, _FILE)
    root = options.images or path.parent
    archive = open_archive(source, options, left)
    items = read_items(path, _FIELDS)
    dated = [_series(item, root, archive) for item in items]
    planned = plan_series((series for series, _ in dated), result, options, TIMING if archive else "T1 to T5")
    contrary = sum(against for _, against in dated)
    if contrary:
        result.notes.append(
            f"{contrary:,} items have images whose dates are not in the order T1 to T5, or not known: their time is "
            "ordinal, in the order of the benchmark"
        )
    left.tell(result)
    check_used(result, path, "item")
    check_images(result, root)
    for item, (series, _) in zip(items, dated, strict=True):
        if series in planned:
            _ask(item, planned[series], result)
    add_split(result, ((sequence, "test") for sequence in planned.values()))
    return result


def _series(item: Item, root: Path, archive: Archive | None) -> tuple[Series, bool]:
    """The images of an item, and whether there are dates that do not fit their order."""
    images = item.fields["images"]
    names = [f"T{number}" for number in range(1, len(images) + 1)] if isinstance(images, dict) else []
    if not names or set(names) != set(images) or not all(isinstance(images[name], str) for name in names):
        raise item.wrong("images", "paths by T1, T2, …")
    paths = [images[name] for name in names]
    patients = {match and match[1] for match in map(_PATIENT.search, paths)}
    patient = patients.pop()
    if patients or patient is None:
        raise item.wrong("images", "paths of one patient, such as files/p10/p10000032/…")
    files = tuple(find_image(path, root, root / "files") for path in paths)
    studies = [archive.study_of(image_id(path)) for path in paths] if archive else []
    days: tuple[float, ...] | None = None
    if archive and all(studies):
        dates = [archive.when(study) for study in studies if study]
        if all(before < after for before, after in pairwise(dates)):
            days = tuple((date - dates[0]) / LENGTHS["day"] for date in dates)
    return Series(patient, files, MODALITY, "frontal", days), archive is not None and days is None


def _ask(item: Item, sequence: PlannedSequence, result: Plan) -> None:
    group, kind = item.needed("group_type").upper(), slug(item.needed("qtype"))
    if group not in _TASKS:
        raise item.wrong("group_type", " or ".join(_TASKS))
    choices, answer = choices_of(item, "choices", "answer")
    prompt, length = item.needed("question"), len(sequence.times)
    row = question_row(
        item.needed("qid"),
        sequence,
        length - 1,
        task=_TASKS[group],
        template=f"mi_cxr_{group.lower()}_{kind}",
        prompt=prompt,
        choices=choices,
        answer=answer,
        evidence=_evidence(item, group, prompt, answer, length),
        names_position=bool(_MOMENT.search(prompt)),
    )
    result.add("questions", **row)
    letter = ascii_uppercase[choices.index(answer)]
    record = {"qid": item.needed("qid"), "group_type": group, "qtype": item.needed("qtype"), "answer": letter}
    result.records.setdefault("items", []).append(
        record | {"choices": dict(zip(ascii_uppercase, choices, strict=False))}
    )


def _evidence(item: Item, group: str, prompt: str, answer: str, length: int) -> list[int] | None:
    """The positions that prove an answer, where the item says so."""
    if group == _SUMMARISE:
        return list(range(length))
    if group == _LOCALISE and _NEVER.match(answer):
        return []
    said = answer if group == _LOCALISE else prompt
    named = sorted({int(number) - 1 for number in _MOMENT.findall(said)})
    if named and named[-1] >= length:
        raise item.wrong("answer" if group == _LOCALISE else "question", f"time points T1 to T{length}")
    return named or None


IMPORTER = Importer(
    name="mi-cxr",
    summary="MI-CXR: five-visit chest X-ray timelines with questions on when and how findings changed.",
    needs=f"{_FILE} or its folder; with --images the folder of MIMIC-CXR-JPG",
    plan=plan,
)

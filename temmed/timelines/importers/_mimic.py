"""MIMIC-CXR-JPG as other sources refer to it: the date, the views and the files of each study.

Studies are put in order by ``StudyDate`` and ``StudyTime``. The numbers of patients, studies and images are random and
say nothing about time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from temmed.errors import InputError
from temmed.timelines.importers._splits import subset_named
from temmed.timelines.importers._tables import LeftOut, Row, find_tables, table_rows
from temmed.timelines.importers.plan import Options, Plan, PlannedSequence, folder_of
from temmed.timelines.importers.studies import Place, Study, plan_studies

MODALITY = "cxr"
TIMING = "StudyDate and StudyTime of the metadata table"
_METADATA = "mimic-cxr-*-metadata.csv"
_SPLIT = "mimic-cxr-*-split.csv"
_COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime")
_NUMBER = re.compile(r"[ps]?(\d+)(?:\.0)?", re.IGNORECASE)
_TIME = re.compile(r"(\d{1,6})(?:\.(\d*))?")
_IMAGE_ENDING = re.compile(r"\.(dcm|jpe?g|png)$", re.IGNORECASE)


@dataclass
class RadiographStudy:
    """One study of the archive.

    Attributes:
        subject: whose it is, without the ``p``.
        study: its number, without the ``s``.
        day: its date.
        clock: its time of day, if that is known.
        views: the channel of each image, by the image's id.
    """

    subject: str
    study: str
    day: datetime
    clock: timedelta | None
    views: dict[str, str] = field(default_factory=dict)


class Archive:
    """The metadata table, and where images and reports lie.

    Args:
        source: what is imported; the tables may be there.
        options: what the user asked for; ``images`` is the folder of MIMIC-CXR-JPG.
        left: counts rows that cannot be used.

    Raises:
        InputError: there is no metadata table, or a cell of it is malformed.
    """

    def __init__(self, source: Path, options: Options, left: LeftOut) -> None:
        self.folders = [options.images] if options.images else []
        self.folders.append(folder_of(source))
        self.root = self.folders[0]
        self.studies: dict[str, RadiographStudy] = {}
        self._study_of_image: dict[str, str] = {}
        for row in table_rows(_needed_table(self.folders, _METADATA), _COLUMNS):
            self._read(row, left)
        untimed = {study.subject for study in self.studies.values() if study.clock is None}
        self._timed = {study.subject for study in self.studies.values()} - untimed

    def _read(self, row: Row, left: LeftOut) -> None:
        day = _day(row)
        if day is None:
            left.add(row, "no StudyDate, so that its order is unknown")
            return
        subject, number = archive_number(row, "subject_id"), archive_number(row, "study_id")
        clock = _clock(row)
        study = self.studies.setdefault(number, RadiographStudy(subject, number, day, clock))
        if study.subject != subject:
            raise row.wrong("subject_id", f"the {study.subject} that earlier rows give study {number}")
        if clock is not None and (study.clock is None or (day, clock) < (study.day, study.clock)):
            # The images of one study may be minutes apart: it begins with the first.
            study.day, study.clock = day, clock
        image = image_id(row.needed("dicom_id"))
        study.views[image] = _channel(row.text("ViewPosition"))
        self._study_of_image[image] = number

    def study_of(self, image: str) -> RadiographStudy | None:
        """The study of an image, by the image's id."""
        number = self._study_of_image.get(image)
        return None if number is None else self.studies[number]

    def when(self, study: RadiographStudy) -> datetime:
        """When a study was made; the time of day counts only where all studies of the patient have one."""
        return study.day + study.clock if study.clock and study.subject in self._timed else study.day

    def order_of(self, earlier: RadiographStudy, later: RadiographStudy) -> str | None:
        """Why two studies cannot be compared in this order; ``None`` if they can."""
        if earlier.subject != later.subject:
            return "its two studies are of two patients"
        before, after = self.when(earlier), self.when(later)
        if before == after:
            return "its two studies have the same date and time, so that their order is unknown"
        return REVERSED if before > after else None

    def plan(self, wanted: Mapping[str, Sequence[str]], result: Plan, options: Options) -> dict[str, Place]:
        """Make one sequence of each patient's studies.

        Args:
            wanted: the studies; of each the images that come first in their channel, before its others.
            result: the plan to add to.
            options: reports are only read for patients within its limit.

        Returns:
            The place of each study by its number, without patients beyond the limit.
        """
        places = plan_studies(self._studies(wanted, options), result, options, modality=MODALITY, timing=TIMING)
        return {study: place for (_, study), place in places.items()}

    def _studies(self, wanted: Mapping[str, Sequence[str]], options: Options) -> list[Study]:
        chosen = [self.studies[number] for number in wanted]
        patients = list(dict.fromkeys(study.subject for study in chosen))
        reported = set(patients[: options.limit])
        return [
            Study(
                patient=study.subject,
                key=study.study,
                when=self.when(study),
                images=tuple(
                    (study.views[image], (self._file(study, image),))
                    for image in dict.fromkeys([*wanted[study.study], *study.views])
                ),
                report=self._report(study) if study.subject in reported else None,
            )
            for study in chosen
        ]

    def split_of(self, places: Mapping[str, Place]) -> list[tuple[PlannedSequence, str]]:
        """The subset of each study's sequence by the archive's own split table; nothing if that is not there."""
        found = _table(self.folders, _SPLIT)
        rows = table_rows(found, ("study_id", "split")) if found else []
        named = {archive_number(row, "study_id"): subset_named(row, "split") for row in rows}
        return [(place.sequence, named[study]) for study, place in places.items() if study in named]

    def _folder(self, study: RadiographStudy) -> list[Path]:
        inside = Path(f"p{study.subject[:2]}", f"p{study.subject}")
        return [folder / top / inside for folder in self.folders for top in ("files", "")]

    def _file(self, study: RadiographStudy, image: str) -> Path:
        files = [folder / f"s{study.study}" / f"{image}.jpg" for folder in self._folder(study)]
        return next((file for file in files if file.is_file()), files[0])

    def _report(self, study: RadiographStudy) -> str | None:
        name = f"s{study.study}.txt"
        places = [place for folder in self._folder(study) for place in (folder / name, folder / name[:-4] / name)]
        reports = [folder / "mimic-cxr-reports" / places[0].relative_to(self.folders[0]) for folder in self.folders]
        file = next((place for place in [*places, *reports] if place.is_file()), None)
        if file is None:
            return None
        try:
            return file.read_text(encoding="utf-8").strip() or None
        except UnicodeDecodeError as error:
            raise InputError("a report in UTF-8", str(error), str(file), "Copy it again from its source.") from error


REVERSED = "the study that it calls the earlier one was made later"


def archive_number(row: Row, column: str) -> str:
    """The number of a patient or study, with or without its ``p`` or ``s``.

    Raises:
        InputError: it is no number.
    """
    match = _NUMBER.fullmatch(row.needed(column))
    if match is None:
        raise row.wrong(column, "a number such as 10000032")
    return match[1]


def image_id(text: str) -> str:
    """The id of an image, which a source may write as a path or with an ending.

    Examples:
        >>> image_id("p10/p10000032/s50414267/02aa804e-bde0afdd.dcm")
        '02aa804e-bde0afdd'
    """
    return _IMAGE_ENDING.sub("", text.replace("\\", "/").rsplit("/", 1)[-1])


def channel_of(place: Place, image: str) -> str | None:
    """The channel that an image got; ``None`` if its file is not there."""
    return next(
        (
            picture.channel
            for picture in place.sequence.pictures
            if picture.position == place.position and image_id(picture.files[0].name) == image
        ),
        None,
    )


def open_archive(source: Path, options: Options, left: LeftOut) -> Archive | None:
    """The archive, if its metadata table is there."""
    folders = [options.images, folder_of(source)] if options.images else [folder_of(source)]
    return Archive(source, options, left) if _table(folders, _METADATA) else None


def _table(folders: Iterable[Path], pattern: str) -> Path | None:
    for folder in folders:
        found = find_tables(sorted(folder.iterdir()) if folder.is_dir() else [], pattern)
        if found:
            return found[0]
    return None


def _needed_table(folders: Sequence[Path], pattern: str) -> Path:
    found = _table(folders, pattern)
    if found is None:
        raise InputError(
            f"the table {pattern}",
            "none",
            " and ".join(map(str, folders)),
            "It belongs to MIMIC-CXR-JPG and holds the dates: give its folder with --images.",
        )
    return found


def _day(row: Row) -> datetime | None:
    text = row.text("StudyDate")
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.removesuffix(".0"))
    except ValueError:
        raise row.wrong("StudyDate", "a date as YYYYMMDD") from None


def _clock(row: Row) -> timedelta | None:
    """A time as a number HHMMSS.fff that has lost its leading zeros: 84556.875 is 08:45:56.875."""
    text = row.text("StudyTime")
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    digits = match[1].zfill(6) if match else ""
    hours, minutes, seconds = (int(digits[start : start + 2] or 99) for start in (0, 2, 4))
    if match is None or hours > 23 or minutes > 59 or seconds > 59:
        raise row.wrong("StudyTime", "a time as HHMMSS.fff")
    return timedelta(hours=hours, minutes=minutes, seconds=seconds + float(f"0.{match[2] or 0}"))


def _channel(view: str | None) -> str:
    words = (view or "").upper().split()
    if {"LATERAL", "LL", "RL"} & set(words):
        return "lateral"
    return "frontal" if words[:1] in (["AP"], ["PA"]) else "other"

"""Volumes in folders, joined to the patients and visits that a source's tables list."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from temmed.timelines.importers._dicom_copy import copy as copy_dicom
from temmed.timelines.importers._dicom_header import Header
from temmed.timelines.importers._dicom_header import inspect as inspect_dicom
from temmed.timelines.importers._dicom_series import assemble
from temmed.timelines.importers.nifti import Volume
from temmed.timelines.importers.nifti import inspect as inspect_nifti
from temmed.timelines.importers.plan import Mapper, Options, Plan, Unusable, relative, slug
from temmed.timelines.importers.registry import copy_bytes
from temmed.timelines.importers.studies import Study

_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_DICOM = ("", ".dcm", ".ima")
#: Parts of a file's name that say whose it is and when it was taken, and not what it shows.
_WHO_AND_WHEN = ("sub-", "ses-", "run-")

#: Which visit an image belongs to: the patient, the visit, and whatever else its importer tells apart.
Key = tuple[str, ...]
#: Tells from a file's path below the root, and its header if it is DICOM, its visit and channel; or why it has none.
Place = Callable[[str, Header | None], tuple[Key, str] | str]


@dataclass
class Images:
    """What lies in a folder.

    Attributes:
        volumes: (channel, files) of the volumes of each visit.
        loops: NIfTI files with a fourth axis, with their visit.
    """

    volumes: dict[Key, list[tuple[str, tuple[Path, ...]]]] = field(default_factory=lambda: defaultdict(list))
    loops: list[tuple[Key, Volume]] = field(default_factory=list)

    def of(self, *key: str) -> tuple[tuple[str, tuple[Path, ...]], ...]:
        """The volumes of a visit."""
        return tuple(self.volumes.get(key, ()))


def find_images(root: Path, files: Iterable[Path], options: Options, run: Mapper, result: Plan, place: Place) -> Images:
    """Find the NIfTI files and DICOM series of a folder.

    Args:
        root: the folder.
        files: its files; those that are neither NIfTI nor DICOM by their names are no images and left alone.
        options: what the user asked for.
        run: calls a function on every file.
        result: the plan in which unusable files are noted.
        place: tells which visit a file belongs to.
    """
    files = list(files)
    found = Images()
    _find_nifti(root, [file for file in files if _NIFTI.search(file.name)], run, result, place, found)
    slices = [file for file in files if file.suffix.lower() in _DICOM]
    if slices:
        _find_dicom(root, slices, options, run, result, place, found)
    return found


def with_images(studies: Sequence[Study], result: Plan) -> list[Study]:
    """The visits of the patients who have an image at any of them; how many have none is noted."""
    seen = {study.patient for study in studies if study.images}
    absent = {study.patient for study in studies} - seen
    if absent:
        result.notes.append(f"{len(absent):,} patients of the tables have no image here and are left out")
    return [study for study in studies if study.patient in seen]


def channel_of(name: str) -> str:
    """What an image shows by its name: without what says whose it is, when it was taken and in which run.

    Examples:
        >>> channel_of("sub-01_ses-a_acq-mprage_run-2_T1w.nii.gz")
        'acq_mprage_t1w'
    """
    parts = _NIFTI.sub("", name).split("_")
    return slug("_".join(part for part in parts if not part.startswith(_WHO_AND_WHEN)))


def copy(source: Path, target: Path, patient_id: str) -> list[str]:
    """Copy an image; of a DICOM file without what names its patient."""
    if source.suffix.lower() in _DICOM:
        return copy_dicom(source, target, patient_id)
    return copy_bytes(source, target, patient_id)


def _find_nifti(root: Path, files: Sequence[Path], run: Mapper, result: Plan, place: Place, found: Images) -> None:
    places: dict[Path, tuple[Key, str]] = {}
    for file in files:
        where = place(relative(file, root), None)
        if isinstance(where, str):
            result.skip([file], where)
        else:
            places[file] = where
    loops: dict[tuple[str, str], Volume] = {}
    for volume in run("Reading headers", inspect_nifti, list(places)):
        if isinstance(volume, Unusable):
            result.skip([volume.path], volume.reason)
            continue
        key, channel = places[volume.path]
        if volume.frames > 1:
            twin = loops.setdefault((key[0], volume.checksum), volume)
            if twin is volume:
                found.loops.append((key, volume))
                result.checksums[volume.path] = volume.checksum
            else:
                result.skip([volume.path], f"the same file as {twin.path.name}")
        elif volume.spatial_dims != 3:
            result.skip([volume.path], "a single slice, where volumes are expected")
        else:
            found.volumes[key].append((channel, (volume.path,)))
            result.checksums[volume.path] = volume.checksum


def _find_dicom(
    root: Path, files: Sequence[Path], options: Options, run: Mapper, result: Plan, place: Place, found: Images
) -> None:
    series: dict[tuple[Key, str, str], list[Header]] = defaultdict(list)
    for header in run("Reading headers", inspect_dicom, [(file, options.frame_seconds) for file in files]):
        if isinstance(header, Unusable):
            result.skip([header.path], header.reason)
            continue
        where = place(relative(header.path, root), header)
        if isinstance(where, str):
            result.skip([header.path], where)
        else:
            series[*where, header.series].append(header)
    for (key, channel, _), headers in sorted(series.items(), key=lambda item: item[0]):
        parts = assemble(headers)
        for unused, reason in parts.unused:
            result.skip(unused, reason)
        for part in parts.parts:
            used = [file for moment in part.moments for file in moment]
            if part.is_cine or part.spatial_dims != 3:
                result.skip(used, "not one volume: a loop or a single slice, which the dicom importer reads")
            else:
                found.volumes[key].append((channel, part.moments[0]))
                result.checksums |= {header.path: header.checksum for header in part.headers}

"""Videos (AVI, MP4): each is one sequence of frames.

Whose a video is, is told by the first folder below the source; a video that lies in none is a patient of its own. Its
order and times are those of the container.
"""

from __future__ import annotations

from pathlib import Path

from temmed.timelines.importers._video import SUFFIXES, Clip, inspect
from temmed.timelines.importers.plan import (
    Mapper,
    Options,
    Plan,
    Unusable,
    folder_of,
    relative,
    source_files,
)
from temmed.timelines.importers.registry import Importer

_LOOP_DIGITS = 8
_MODALITY = "video"
_STAMPS = "the container's time stamps"


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the videos of a file or folder.

    Args:
        source: a video, or a folder that holds some at any depth.
        options: what the user asked for.
        run: calls a function on every file.

    Raises:
        InputError: there is nothing at ``source``.
    """
    result = Plan()
    files = source_files(source)
    videos = [file for file in files if file.suffix.lower() in SUFFIXES]
    result.skip((file for file in files if file.suffix.lower() not in SUFFIXES), "not a video by its name (.avi, .mp4)")
    clips: dict[str, Clip] = {}
    for entry in run("Reading videos", inspect, videos):
        if isinstance(entry, Unusable):
            result.skip([entry.path], entry.reason)
        elif (twin := clips.setdefault(entry.checksum, entry)) is not entry:
            result.skip([entry.path], f"the same file as {twin.path.name}")
    folder = folder_of(source)
    owners = {clip.path: _owner(relative(clip.path, folder)) for clip in clips.values()}
    written = result.choose(owners.values(), options)
    result.patients = [{"patient_id": patient_id} for patient_id in written.values()]
    for clip in clips.values():
        if owners[clip.path] in written:
            result.checksums[clip.path] = clip.checksum
            _add(clip, written[owners[clip.path]], options, result)
    if options.modality is None and result.sequences:
        result.notes.append(f"a video does not name its modality: it is called {_MODALITY}; say otherwise (--modality)")
    if any(sequence.timing == _STAMPS for sequence in result.sequences):
        result.notes.append(
            "times are those at which frames are shown; if a video was made at another rate than it was taken at, give "
            "--frame-seconds"
        )
    return result


def _owner(path: str) -> str:
    """The patient of a video by its path: its first folder, or its own name."""
    folder, _, rest = path.partition("/")
    return folder if rest else Path(path).stem


def _add(clip: Clip, patient: str, options: Options, result: Plan) -> None:
    modality = options.modality or _MODALITY
    sequence_id = f"{patient}_{modality}_{clip.checksum[:_LOOP_DIGITS]}"
    if options.frame_seconds is not None:
        unit, timing = "second", "--frame-seconds"
        times = [frame * options.frame_seconds for frame in range(clip.frames)]
    elif clip.times:
        unit, timing, times = "second", _STAMPS, list(clip.times)
    else:
        unit, timing, times = "frame", "none", [float(frame) for frame in range(clip.frames)]
        result.notes.append(
            f"{sequence_id}: its time stamps are missing or do not grow, so that its time_unit is frame; give "
            "--frame-seconds if you know it"
        )
    result.sequences.append(clip.sequence(sequence_id, patient, modality, unit, times, timing))


IMPORTER = Importer(
    name="video",
    summary="Videos (AVI, MP4): each is one sequence of frames.",
    needs="a video, or a folder of <patient>/<video>.avi or .mp4",
    plan=plan,
)

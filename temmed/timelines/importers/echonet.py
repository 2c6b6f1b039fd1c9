"""EchoNet-Dynamic: echocardiogram clips with volumes, ejection fractions and traced frames.

https://echonet.github.io/dynamic/ — ``FileList.csv``, ``VolumeTracings.csv`` and ``Videos/*.avi``.

Which of the traced frames is end-diastole is told by the area inside the tracing, never by the order of the rows: tools
that read this dataset disagree about that order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from temmed.timelines.importers._splits import add_split, subset_named
from temmed.timelines.importers._tables import LeftOut, Row, table_rows
from temmed.timelines.importers._video import Clip, inspect
from temmed.timelines.importers.plan import Mapper, Options, Plan, PlannedSequence, Unusable
from temmed.timelines.importers.registry import Importer
from temmed.timelines.importers.rows import event_row, question_row

_COLUMNS = ("FileName", "EF", "ESV", "EDV", "FPS", "NumberOfFrames", "Split")
_TRACED = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
_VENTRICLE = "left ventricle"
#: column: quantity, unit, question.
_QUANTITIES = {
    "EF": ("ejection_fraction", "%", "What is the ejection fraction of the left ventricle, in percent?"),
    "EDV": ("end_diastolic_volume", "mL", "What is the end-diastolic volume of the left ventricle, in millilitres?"),
    "ESV": ("end_systolic_volume", "mL", "What is the end-systolic volume of the left ventricle, in millilitres?"),
}


@dataclass(frozen=True)
class _Listed:
    """A row of the file list.

    Attributes:
        file: its video.
        rate: frames per second.
        frames: how many frames the video should have.
        subset: of the official split.
        values: the numbers of the columns in ``_QUANTITIES`` that are there.
    """

    file: Path
    rate: float
    frames: float | None
    subset: str
    values: dict[str, float]


@dataclass(frozen=True)
class _Tracing:
    """The outline of the left ventricle in one frame.

    Attributes:
        frame: 0-based.
        lines: its long axis, then chords across it from one end to the other: x and y of both ends, in pixels.
    """

    frame: int
    lines: tuple[tuple[float, float, float, float], ...]

    @property
    def area(self) -> float:
        """Pixels inside the outline that the ends of the chords make."""
        chords = self.lines[1:]
        outline = [(x1, y1) for x1, y1, _, _ in chords] + [(x2, y2) for _, _, x2, y2 in reversed(chords)]
        following = outline[1:] + outline[:1]
        pairs = zip(outline, following, strict=True)
        return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2

    @property
    def box(self) -> dict[str, float]:
        """The smallest box around it."""
        across = [x for x1, _, x2, _ in self.lines for x in (x1, x2)]
        down = [y for _, y1, _, y2 in self.lines for y in (y1, y2)]
        return {"x1": min(across), "y1": min(down), "x2": max(across), "y2": max(down)}


@dataclass(frozen=True)
class _Phases:
    """The traced frames of one beat."""

    diastole: _Tracing
    systole: _Tracing


def plan(source: Path, options: Options, run: Mapper) -> Plan:
    """Find the clips of an EchoNet-Dynamic folder.

    Args:
        source: the folder with ``FileList.csv``.
        options: what the user asked for; ``images`` is the folder of the videos if it is not ``Videos``.
        run: calls a function on every video.

    Raises:
        InputError: a table is missing, lacks a column or holds a value that is none.
    """
    result, left_out = Plan(), LeftOut()
    listed = _listed(source / "FileList.csv", options.images or source / "Videos", left_out)
    traced = _tracings(source / "VolumeTracings.csv", listed, left_out)
    written = result.choose(listed, options)
    subsets: list[tuple[PlannedSequence, str]] = []
    counted: dict[str, list[str]] = defaultdict(list)
    clips = run("Reading videos", inspect, [listed[name].file for name in written])
    for name, clip in zip(written, clips, strict=True):
        if isinstance(clip, Unusable):
            result.skip([clip.path], clip.reason)
            continue
        about = listed[name]
        result.checksums[clip.path] = clip.checksum
        result.patients.append({"patient_id": written[name]})
        sequence = _sequence(clip, about.rate, written[name], options)
        result.sequences.append(sequence)
        subsets.append((sequence, about.subset))
        if clip.frames != about.frames:
            told = "have another number of frames than FileList.csv says; the file's own counts"
            counted[told].append(sequence.sequence_id)
        phases = _phases(traced.get(name, []), clip.frames)
        if isinstance(phases, str):
            counted[f"have no events: {phases}"].append(sequence.sequence_id)
            _measure(about.values, sequence, None, result)
        else:
            _measure(about.values, sequence, phases, result)
            _mark(sequence, phases, result)
    add_split(result, subsets)
    left_out.tell(result)
    for told, names in counted.items():
        result.notes.append(f"{len(names):,} videos (such as {names[0]}) {told}")
    if "events" in result.tables:
        result.notes.append("only one beat of each clip is traced: the same moments of other beats are no events here")
    return result


def _listed(path: Path, folder: Path, left_out: LeftOut) -> dict[str, _Listed]:
    """The rows of the file list by the name of the video, which has no suffix."""
    listed: dict[str, _Listed] = {}
    for row in table_rows(path, _COLUMNS):
        name, rate, subset = _stem(row), _value(row, "FPS"), subset_named(row, "Split")
        if rate <= 0:
            raise row.wrong("FPS", "a rate above 0")
        values = {column: value for column in _QUANTITIES if (value := row.number_in(column)) is not None}
        file = folder / f"{name}.avi"
        if name in listed:
            left_out.add(row, "its video is listed before")
        elif not file.is_file():
            left_out.add(row, f"its video is not in {folder}")
        else:
            listed[name] = _Listed(file, rate, row.number_in("NumberOfFrames"), subset, values)
    return listed


def _stem(row: Row) -> str:
    """A video's name without its suffix, which some releases write and some do not."""
    name = row.needed("FileName")
    return name[: -len(".avi")] if name.lower().endswith(".avi") else name


def _tracings(path: Path, listed: Collection[str], left_out: LeftOut) -> dict[str, list[_Tracing]]:
    """The traced frames of each video that is listed."""
    lines: dict[str, dict[int, list[tuple[float, float, float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in table_rows(path, _TRACED):
        name = _stem(row)
        if name not in listed:
            left_out.add(row, "its video is not listed in FileList.csv, or is not there")
            continue
        frame = _value(row, "Frame")
        if frame != int(frame) or frame < 0:
            raise row.wrong("Frame", "a whole number from 0")
        x1, y1, x2, y2 = (_value(row, column) for column in ("X1", "Y1", "X2", "Y2"))
        lines[name][int(frame)].append((x1, y1, x2, y2))
    return {name: [_Tracing(frame, tuple(found)) for frame, found in frames.items()] for name, frames in lines.items()}


def _value(row: Row, column: str) -> float:
    value = row.number_in(column)
    if value is None:
        raise row.wrong(column, "a number")
    return value


def _sequence(clip: Clip, rate: float, patient: str, options: Options) -> PlannedSequence:
    step, timing = 1 / rate, "FPS of FileList.csv"
    if options.frame_seconds is not None:
        step, timing = options.frame_seconds, "--frame-seconds"
    modality = options.modality or "ultrasound"
    times = [frame * step for frame in range(clip.frames)]
    return clip.sequence(f"{patient}_{modality}", patient, modality, "second", times, timing)


def _phases(tracings: list[_Tracing], frames: int) -> _Phases | str:
    """Which traced frames are end-diastole and end-systole, or why that cannot be told."""
    if len(tracings) < 2:
        return "fewer than two frames are traced"
    if any(tracing.frame >= frames for tracing in tracings):
        return "a traced frame lies beyond the end of the video"
    ordered = sorted(tracings, key=lambda tracing: tracing.area)
    if ordered[0].area == ordered[-1].area:
        return "the traced areas are equal"
    return _Phases(diastole=ordered[-1], systole=ordered[0])


def _measure(values: Mapping[str, float], sequence: PlannedSequence, phases: _Phases | None, result: Plan) -> None:
    """Measurements, and a question at the last frame for each."""
    finding = f"{sequence.sequence_id}_left_ventricle"
    result.add("findings", finding_id=finding, sequence_id=sequence.sequence_id, label=_VENTRICLE)
    last = len(sequence.times) - 1
    seen: dict[str, list[int]] = {}
    if phases is not None:
        both = sorted({phases.diastole.frame, phases.systole.frame})
        seen = {"EF": both, "EDV": [phases.diastole.frame], "ESV": [phases.systole.frame]}
    for column, (quantity, unit, prompt) in _QUANTITIES.items():
        if column not in values:
            continue
        evidence = seen.get(column)
        position = last if column == "EF" else evidence[0] if evidence else None
        if position is not None:
            result.add(
                "measurements",
                finding_id=finding,
                position=position,
                quantity=quantity,
                value=values[column],
                unit=unit,
            )
        result.add(
            "questions",
            **question_row(
                f"{sequence.sequence_id}_{quantity}",
                sequence,
                last,
                task="measurement",
                template=f"echonet_{quantity}",
                prompt=prompt,
                value=values[column],
                evidence=evidence,
                finding_id=finding,
            ),
        )


def _mark(sequence: PlannedSequence, phases: _Phases, result: Plan) -> None:
    """The two moments as events, and a box around the ventricle in each of the frames."""
    finding = f"{sequence.sequence_id}_left_ventricle"
    for label, tracing in (("end-diastole", phases.diastole), ("end-systole", phases.systole)):
        event_id = f"{sequence.sequence_id}_{label}"
        row = event_row(event_id, sequence, label, (tracing.frame, tracing.frame), finding)
        result.add("events", **row)
        channel = sequence.pictures[tracing.frame].channel
        result.add("boxes", finding_id=finding, position=tracing.frame, channel=channel, **tracing.box)


IMPORTER = Importer(
    name="echonet",
    summary="EchoNet-Dynamic: echocardiogram clips, volumes, traced end-diastole and end-systole.",
    needs="a folder with FileList.csv, VolumeTracings.csv and Videos/*.avi",
    plan=plan,
)

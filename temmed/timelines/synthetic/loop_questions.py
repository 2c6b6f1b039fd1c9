"""Questions, events and statements of cine loops, about frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.prompts.questions import NEVER, PROGRESSION_CHOICES, frame, render
from temmed.timelines.schema import PROGRESSION_BOUND
from temmed.timelines.synthetic.asking import COLUMNS, question_row
from temmed.timelines.synthetic.balance import balanced
from temmed.timelines.synthetic.courses import patient_rng
from temmed.timelines.synthetic.loops import CHAMBER, Loop
from temmed.timelines.synthetic.modality import Rows
from temmed.timelines.synthetic.progression import verdict
from temmed.timelines.synthetic.rows import finding_id, measured, report_rows, sequence_id
from temmed.timelines.tables import named_rows

QUANTITY, WORDS = "short_diameter", "short diameter"
PER_SEQUENCE = {"progression": 7, "measurement_pairs": 2, "event": 4}
CHOICES_PER_EVENT = 4
#: Pairs of frames of a loop from which questions are chosen.
_PAIRS = 90
#: Frames offered beside the smallest or the largest differ from it by this share, and are at most so far apart.
_APART, _WIDEST = 0.03, 5
_LABEL = f"contrast in the {CHAMBER}"
Case = TypeVar("Case")
#: Number and times of a loop, number of a finding, and the finding in words.
Subject = tuple[int, NDArray[np.float64], int, str]


def _row(loop: Loop, finding: int | None, **fields: Any) -> dict[str, Any]:
    return question_row(loop.index, loop.times, finding, **fields)


def _progression(loops: list[Loop], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for number, loop in enumerate(loops):
        pairs = np.sort(rng.integers(0, len(loop.times), (_PAIRS, 2)), axis=1)
        for first, last in np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0).tolist():
            sizes = loop.diameters[[first, last]]
            rows.append((number, first, last, *sizes, loop.times[last] - loop.times[first]))
    table = pd.DataFrame(rows, columns=["loop", "first", "last", "size_first", "size_last", "gap"]).assign(others=0.0)

    def subject(row: Any) -> Subject:
        loop = loops[row.loop]
        return loop.index, loop.times, 0, CHAMBER

    return progression_rows(table, subject, len(loops), rng)


def progression_rows(
    table: pd.DataFrame, subject: Callable[[Any], Subject], loops: int, rng: np.random.Generator, coarse: bool = False
) -> list[dict[str, Any]]:
    """Questions that compare two frames, balanced.

    Args:
        table: candidates: ``first, last, size_first, size_last, gap, others``, and what ``subject`` reads.
        subject: the loop's number and times, the finding's number and the finding in words, from a candidate.
        loops: how many there are.
        rng: the generator.
        coarse: as of `balanced`.
    """
    table["verdict"], asked = verdict(table["size_first"].to_numpy(), table["size_last"].to_numpy())
    table["steps"] = table["last"] - table["first"]
    table = table.assign(template="progression_frame", kind="")[asked].reset_index(drop=True)
    found = []
    for row in named_rows(balanced(table, PER_SEQUENCE["progression"] * loops, rng, coarse=coarse)):
        index, times, finding, phrase = subject(row)
        first, last = int(row.first), int(row.last)
        words = {"finding": phrase, "first": frame(first), "last": frame(last)}
        found.append(
            question_row(
                index,
                times,
                finding,
                task="progression",
                template=row.template,
                prompt=render(row.template, int(rng.integers(2)), **words),
                asked_at=last,
                choices=list(PROGRESSION_CHOICES),
                answer=PROGRESSION_CHOICES[row.verdict],
                evidence=[first, last],
                names_position=True,
            )
        )
    return found


def _measurement(loops: list[Loop], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for loop in loops:
        for _ in range(PER_SEQUENCE["measurement_pairs"]):
            first, last = sorted(rng.choice(len(loop.times), 2, replace=False).tolist())
            sizes = loop.diameters[[first, last]]
            for template, value, evidence in (
                ("measurement_prior", sizes[0], [first]),
                ("measurement_current", sizes[1], [last]),
                ("measurement_ratio", sizes[1] / sizes[0], [first, last]),
            ):
                words = {"finding": CHAMBER, "quantity": WORDS, "first": frame(first), "last": frame(last)}
                rows.append(_value(loop, template, render(template, 0, **words), last, value, evidence, True))
        if loop.beats:
            prompt = render("measurement_ejection", int(rng.integers(2)), finding=CHAMBER)
            evidence = [loop.beats[0].diastole, loop.beats[0].systole]
            asked = len(loop.times) - 1
            rows.append(_value(loop, "measurement_ejection", prompt, asked, loop.ejection_fraction, evidence, False))
    return rows


def _value(
    loop: Loop, template: str, prompt: str, asked: int, value: float, evidence: list[int], named: bool
) -> dict[str, Any]:
    return _row(
        loop,
        0,
        task="measurement",
        template=template,
        prompt=prompt,
        asked_at=asked,
        value=float(np.round(value, 3)),
        evidence=evidence,
        names_position=named,
    )


def _choice_row(
    loop: Loop, template: str, prompt: str, asked: int, choices: list[str], answer: str, evidence: list[int]
) -> dict[str, Any]:
    return _row(
        loop,
        0,
        task="event",
        template=template,
        prompt=prompt,
        asked_at=asked,
        choices=choices,
        answer=answer,
        evidence=evidence,
        names_position=False,
    )


def _extremes(loops: list[Loop], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Which of three frames shows the chamber smallest, or largest?

    How the frames offered are spaced does not tell: the same spaces would fit with the answer as any of the three.
    """
    found = []
    for loop in loops:
        extremes = [("event_systole", beat.systole) for beat in loop.beats]
        extremes += [("event_diastole", beat.diastole) for beat in loop.beats]
        for template, truth in extremes:
            offered = np.concatenate([[0], np.cumsum(rng.integers(1, _WIDEST + 1, 2))])
            frames = truth + offered - offered[rng.integers(3)]
            if not _fits(loop.diameters, truth, frames, 1.0 if template == "event_systole" else -1.0):
                continue
            choices = [frame(int(k)) for k in rng.permutation(frames)]
            prompt = render(template, int(rng.integers(2)), finding=CHAMBER)
            asked = int(rng.integers(frames.max(), len(loop.times)))
            found.append(_choice_row(loop, template, prompt, asked, choices, frame(truth), [truth]))
    keep = rng.permutation(len(found))[: PER_SEQUENCE["event"] * len(loops) // 2]
    return [found[k] for k in sorted(keep.tolist())]


def _fits(diameters: NDArray[np.float64], truth: int, frames: NDArray[np.int64], sign: float) -> bool:
    """Whether the truth would be the extreme, clearly, as any of three frames spaced like these, and all in the loop.

    Args:
        diameters: of all frames.
        truth: the frame of the extreme.
        frames: three, in order.
        sign: 1 for the smallest, -1 for the largest.
    """
    width = frames[2] - frames[0]
    if frames[0] < width or frames[2] + width >= len(diameters):
        return False
    others = truth + np.unique(frames[:, None] - frames[None, :])
    worse = sign * np.log(diameters[others] / diameters[truth])
    return bool((worse[others != truth] > _APART).all())


def offered_moments(
    happened: list[tuple[Case, int, int]], never: list[tuple[Case, int]], wanted: int, rng: np.random.Generator
) -> Iterator[tuple[Case, int, int | None, list[str]]]:
    """Choices for questions about the frame of an event: those of other cases, and never.

    Args:
        happened: case, asked frame and true frame.
        never: case and asked frame, where it has not happened until then.
        wanted: most questions about events that happened.
        rng: the generator.

    Yields:
        Case, asked frame, true frame or ``None``, and the choices in their order.
    """
    moments = np.array([moment for _, _, moment in happened])
    # "never" is one of the choices, and is to be right as often as each of the others.
    count = min(len(happened), (CHOICES_PER_EVENT - 1) * len(never), wanted)
    chosen: list[tuple[Case, int, int | None]] = [happened[k] for k in rng.permutation(len(happened))[:count]]
    rest = rng.permutation(len(never))[: count // (CHOICES_PER_EVENT - 1)]
    chosen += [(*never[k], None) for k in rest]
    for case, asked, truth in chosen:
        possible = np.unique(moments[(moments <= asked) & (moments != truth)])
        offered = CHOICES_PER_EVENT - 1 - (truth is not None)
        if len(possible) < offered:
            continue
        weight = np.array([(moments == moment).sum() for moment in possible], dtype=float)
        others = rng.choice(possible, offered, replace=False, p=weight / weight.sum()).tolist()
        names = [frame(int(k)) for k in [*others, *([] if truth is None else [truth])]] + [NEVER]
        yield case, asked, truth, [names[k] for k in rng.permutation(len(names))]


def _contrast(loops: list[Loop], rng: np.random.Generator) -> list[dict[str, Any]]:
    """When did contrast arrive, or wash out? The other frames offered are the answers of other loops."""
    found = []
    for template in ("event_arrival", "event_washout"):
        happened: list[tuple[Loop, int, int]] = []
        never: list[tuple[Loop, int]] = []
        for loop in loops:
            moment = loop.arrival if template == "event_arrival" else loop.washout
            asked = int(rng.integers(6, len(loop.times)))
            if moment is not None and moment <= asked:
                happened.append((loop, asked, moment))
            elif template == "event_arrival" or (loop.arrival is not None and loop.arrival <= asked):
                never.append((loop, asked))
        wanted = PER_SEQUENCE["event"] * len(loops) // 4
        for loop, asked, truth, choices in offered_moments(happened, never, wanted, rng):
            prompt = render(template, int(rng.integers(2)), finding=CHAMBER)
            answer = NEVER if truth is None else frame(truth)
            evidence = [] if truth is None else [truth - 1, truth]
            found.append(_choice_row(loop, template, prompt, asked, choices, answer, evidence))
    return found


def draw_loop_questions(loops: list[Loop], seed: int) -> pd.DataFrame:
    """All questions of a set of loops.

    Args:
        loops: every loop of the set.
        seed: of the whole set.

    Returns:
        As of `temmed.timelines.synthetic.questions.draw_questions`.
    """
    rng = np.random.default_rng([seed, 2**31, 4])
    rows = _progression(loops, rng) + _measurement(loops, rng) + _extremes(loops, rng) + _contrast(loops, rng)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["course", "asked_at", "task", "prompt"], kind="stable").reset_index(drop=True)


def describe_loop(loop: Loop, errors: NDArray[np.float64], seed: int, rows: Rows) -> None:
    """Add the chamber, its diameters, ejection fraction, events, report and statements of a loop.

    Args:
        loop: the loop.
        errors: not used: how precisely a diameter can be read from speckle is not stated.
        seed: of the whole set.
        rows: by table; added to.
    """
    del errors
    sequence, identity = sequence_id(loop.index), finding_id(loop.index, 0)
    rows["findings"].append(
        {"finding_id": identity, "sequence_id": sequence, "label": CHAMBER, "location": "apical four-chamber view"}
    )
    for position, diameter in enumerate(loop.diameters):
        rows["measurements"].append(measured(identity, position, QUANTITY, diameter, "mm"))
    if loop.beats:
        fraction = measured(identity, loop.beats[0].systole, "ejection_fraction", loop.ejection_fraction, "%")
        rows["measurements"].append(fraction)
    own = {"sequence_id": sequence, "finding_id": identity}
    contrast: dict[str, Any] = {"event_id": f"{identity}-c", **own, "label": _LABEL}
    if loop.arrival is not None:
        gone = loop.washout
        contrast |= {
            "onset_lower": float(loop.times[loop.arrival - 1]),
            "onset_upper": float(loop.times[loop.arrival]),
            "offset_lower": float(loop.times[-1 if gone is None else gone - 1]),
            "offset_upper": np.inf if gone is None else float(loop.times[gone]),
        }
    rows["events"].append(contrast)
    for beat in loop.beats:
        rows["events"].append(
            {
                "event_id": f"{identity}-s{beat.number}",
                **own,
                "label": f"systole of beat {beat.number}",
                "onset_lower": float(loop.times[beat.diastole]),
                "onset_upper": float(loop.times[beat.diastole + 1]),
                "offset_lower": float(loop.times[beat.systole]),
                "offset_upper": float(loop.times[beat.systole + 1]),
            }
        )
    report_rows(loop.index, loop.times, _told(loop, seed), rows)


def _told(loop: Loop, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The report on the whole loop, and statements on its beats and on its contrast.

    Statements come in pairs with opposite truths, so that no word is true more often than not.
    """
    rng = patient_rng(seed, loop.index, 3)
    last = len(loop.times) - 1
    text = [f"Echocardiography, {last + 1} frames, {loop.times[1]:g} ms apart."]
    if loop.beats:
        text.append(f"The ejection fraction of the {CHAMBER} is {loop.ejection_fraction:.0f} %.")
    if loop.arrival is None:
        text.append("No contrast is seen.")
    else:
        end = "is still seen at the end" if loop.washout is None else f"has washed out at {frame(loop.washout)}"
        text.append(f"Contrast arrives in the {CHAMBER} at {frame(loop.arrival)} and {end}.")
    statements = []
    for beat in loop.beats[:2]:
        full, empty, filled = np.log(loop.diameters[[beat.diastole, beat.systole, beat.next_diastole]])
        if min(full, filled) - empty > PROGRESSION_BOUND:
            for earlier, now, truth, opposite in (
                (beat.diastole, beat.systole, "smaller", "larger"),
                (beat.systole, beat.next_diastole, "larger", "smaller"),
            ):
                sentence = f"The {CHAMBER} is {{}} than at {frame(earlier)}."
                statements.append(_statement(rng, now, sentence, truth, opposite))
    if loop.arrival is not None and loop.washout is not None:
        sentence = f"Contrast in the {CHAMBER} is {{}}."
        statements.append(_statement(rng, loop.arrival, sentence, "new", "gone"))
        statements.append(_statement(rng, loop.washout, sentence, "gone", "new"))
    return [{"position": last, "text": " ".join(text)}], statements


def _statement(rng: np.random.Generator, position: int, sentence: str, truth: str, opposite: str) -> dict[str, Any]:
    flipped = bool(rng.random() < 0.5)
    said = opposite if flipped else truth
    return {
        "position": position,
        "finding": 0,
        "text": sentence.format(said),
        "direction": said,
        "location": CHAMBER,
        "consistent": not flipped,
        "flip": "direction" if flipped else None,
    }

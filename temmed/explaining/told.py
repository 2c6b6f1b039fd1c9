"""What an explanation says, as its manifest holds it; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One time point that a question could read.

    Attributes:
        position: its index in the sequence.
        time: since the first, in the unit of the sequence.
        has_image: whether it has one.
        relevance: share of what counted, by absolute size, over all time points 1 in sum; 0 if nothing counted.
        memory: share of what was remembered; ``None`` of a model whose memory has no positions.
        earliest: probability, by the model's own account, of being the earliest evidence; likewise.
        latest: the same of the latest.
    """

    position: int
    time: float
    has_image: bool
    relevance: float
    memory: float | None
    earliest: float | None
    latest: float | None


@dataclass(frozen=True)
class Told:
    """One question, its answer, and what that rests on.

    Attributes:
        question_id: its id.
        sequence_id: its sequence.
        task: its task.
        template: its template.
        prompt: its text.
        asked_at: the position at which it is asked.
        choices: the answers offered; none for a value.
        probabilities: of the choices.
        answer: the likeliest choice; ``None`` for a value.
        truth: the right choice.
        value: the value that the model gives; ``None`` for a choice.
        true_value: the right one.
        evidence: the positions that prove the answer.
        cited: the positions that the model cites.
        time_unit: of the sequence.
        points: the time points up to the question.
        channels: of the images, after windows.
        signed: whether what speaks against the answer is negative in the maps.
        score: of the answer, which the maps explain.
        gained: of it, by the images.
        error: of the sum of the maps, which should be ``gained``.
        maps: the file, which holds ``relevance (N, *spatial)``, ``positions (N,)`` and ``images (N, C, *spatial)``, the
            images as the model was given them.
    """

    question_id: str
    sequence_id: str
    task: str
    template: str
    prompt: str
    asked_at: int
    choices: list[str]
    probabilities: list[float]
    answer: str | None
    truth: str | None
    value: float | None
    true_value: float | None
    evidence: list[int]
    cited: list[int]
    time_unit: str
    points: list[Point]
    channels: list[str]
    signed: bool
    score: float | None
    gained: float | None
    error: float | None
    maps: str


@dataclass(frozen=True)
class Explained:
    """Explanations of one model.

    Attributes:
        format: of the manifest.
        model: the name of the run.
        checkpoint: its file.
        checkpoint_sha256: the digest of that.
        dataset: the name of the data.
        dataset_fingerprint: of their content.
        split: its name.
        subset: whose questions.
        method: how relevance was computed.
        steps: of ``integrated_gradients``.
        questions: in the order of the page.
    """

    format: str
    model: str
    checkpoint: str
    checkpoint_sha256: str
    dataset: str
    dataset_fingerprint: str
    split: str
    subset: str
    method: str
    steps: int | None
    questions: list[Told]

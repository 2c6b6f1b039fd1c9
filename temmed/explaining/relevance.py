"""How much each pixel of a sequence counts for one answer.

- ``integrated_gradients`` (Sundararajan et al. 2017) follows the score of the answer from images of nothing but the
  mean to those that are there. What the pixels get is in sum what the score gained; the error of that sum is told.
- ``grad_cam`` (Selvaraju et al. 2017) weighs the channels of the backbone's last feature map by their mean gradient,
  and keeps what speaks for the answer. Both through captum (Kokhlikyan et al. 2020). What differs: all images of a
  sequence are one input, so that relevance can be compared over time.
- ``attention`` is what the reader says of itself (`temmed.models.readers.base.Reading`), and needs no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.data.batch import TimelineBatch
from temmed.errors import InputError
from temmed.models.backbones.base import Backbone
from temmed.models.previous_answers import PreviousAnswers
from temmed.models.reasoner import Reasoner

Method = Literal["attention", "grad_cam", "integrated_gradients"]
METHODS: tuple[Method, ...] = get_args(Method)
#: Points of the path of integrated gradients.
STEPS = 64
#: Which root of the images goes along it evenly.
_DENSER = 4


@dataclass(frozen=True)
class Relevance:
    """What counted for one answer.

    Attributes:
        maps: ``(N, *spatial)`` float32, one for each image of the batch; exactly 0 where an image had no part.
        signed: whether what speaks against the answer is negative; else all is ≥ 0.
        score: of the answer, see `score_of`; ``None`` for ``attention``, which knows none.
        gained: the score less that of images of nothing but the mean; ``None`` but for ``integrated_gradients``.
        error: the sum of ``maps`` less ``gained``, which it should equal; likewise.
    """

    maps: Tensor
    signed: bool
    score: float | None = None
    gained: float | None = None
    error: float | None = None


def relevance(
    reasoner: Reasoner, batch: TimelineBatch, place: tuple[int, int], method: Method, steps: int = STEPS
) -> Relevance:
    """Explain one answer of a model.

    Args:
        reasoner: in evaluation mode, with heads for answers or values.
        batch: sequences with pixels.
        place: the sequence in the batch, and the question of it.
        method: one of `METHODS`.
        steps: points of the path of ``integrated_gradients``: more make its error smaller.

    Raises:
        InputError: there are no pixels, no head gives the answer, or captum is needed and not installed.
    """
    if batch.is_features:
        raise _refused("pixels, which an explanation points at", "stored features", "Leave data.cache_features out.")
    if not len(batch.images):
        raise _refused("images to explain an answer by", "none", "Explain a model that is given images.")
    if method == "attention":
        return _attention(reasoner, batch, place)
    with _from_finished(reasoner) as finish, _hearing_the_same(reasoner.previous):
        index = batch.frame_index[:, 0], batch.frame_index[:, 1]
        images = finish(batch.images, batch.channel_mask[index])
        choice = _chosen(reasoner, replace(batch, images=images), place)

        def score(images: Tensor) -> Tensor:
            return score_of(reasoner(replace(batch, images=images)), place, choice)

        if method == "grad_cam":
            return _grad_cam(reasoner.backbone, score, images)
        return _integrated_gradients(score, images, steps)


def check_method(name: str) -> Method:
    """The method of a name.

    Raises:
        InputError: there is none, or captum is needed and not installed.
    """
    method = next((known for known in METHODS if known == name), None)
    if method is None:
        raise InputError(f"one of {', '.join(METHODS)}", repr(name), "--method", "Choose one.")
    if method != "attention" and find_spec("captum") is None:
        raise InputError(
            f"captum, which computes {method}",
            "it is not installed",
            "--method",
            "Install it: `pip install 'temmed[explain]'`, or use --method attention.",
        )
    return method


def check_model(model: nn.Module, where: str) -> Reasoner:
    """The model of a checkpoint, as one that can be explained.

    Raises:
        InputError: it writes its answers instead of scoring them.
    """
    if not isinstance(model, Reasoner):
        raise InputError(
            "a model that scores its answers, as all but clip_vl do",
            f"a {type(model).__name__}, which writes them",
            where,
            "Explain a run of another model; what this one wrote is the rationale in predictions/*/answers.",
        )
    return model


def score_of(said: dict[str, Tensor], place: tuple[int, int], choice: int | None) -> Tensor:
    """How strongly a model answers as it does, a scalar.

    Of a choice, its logit less the mean of the others: what all choices share makes no difference to an answer. Of a
    value, the value on the scale that the model was fitted to.

    Args:
        said: what `Reasoner.forward` returned.
        place: sequence and question.
        choice: the answer; ``None`` for a value.
    """
    if choice is None:
        return said["value"][place]
    logits = said["answer"][place]
    others = logits.isfinite()
    others[choice] = False
    return logits[choice] - logits[others].mean()


@torch.no_grad()
def _chosen(reasoner: Reasoner, batch: TimelineBatch, place: tuple[int, int]) -> int | None:
    """The choice that a model takes; ``None`` where it gives a value."""
    offers = bool(batch.choice_mask[place].any())
    head = "answer" if offers else "value"
    if head not in reasoner.tasks:
        kind = "choices" if offers else "a value"
        raise _refused(
            f"a model with the head {head!r}, for questions with {kind}",
            f"one with {', '.join(reasoner.tasks)}",
            "Explain other questions.",
        )
    return int(reasoner(batch)["answer"][place].argmax()) if offers else None


def _refused(expected: str, found: str, remedy: str) -> InputError:
    return InputError(expected, found, "explanation", remedy)


class _AsGiven(nn.Module):
    """In place of `temmed.data.pixels.Finish`: the images are finished already."""

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        return images


@contextmanager
def _from_finished(reasoner: Reasoner) -> Iterator[nn.Module]:
    """Let the model take images that are normalised already, and read each sequence at once.

    Chunks give the same numbers, but may cut the gradient. Yields what normalises.
    """
    finish, chunk = reasoner.finish, reasoner.chunk
    reasoner.finish = _AsGiven()  # type: ignore[assignment]
    reasoner.chunk = None
    try:
        yield finish
    finally:
        reasoner.finish, reasoner.chunk = finish, chunk


@contextmanager
def _hearing_the_same(previous: PreviousAnswers | None) -> Iterator[None]:
    """Let the answers to earlier questions be heard as they are first given, however images are changed after that."""
    if previous is None:
        yield
        return
    given: list[Tensor] = []
    answer = previous.given

    def first(*args: Any) -> Tensor:
        if not given:
            given.append(answer(*args).detach())
        return given[0]

    vars(previous)["given"] = first  # in front of the method
    try:
        yield
    finally:
        del vars(previous)["given"]


def _integrated_gradients(score: Callable[[Tensor], Tensor], images: Tensor, steps: int) -> Relevance:
    """From 0, which is the mean of each channel, and what a channel that is absent has.

    Normalisation layers make the score change fastest close to 0, where points of the path are to lie denser. So the
    path is that of the roots u of the images, x = u·|u|³: the same straight line for the images, and the same integral.
    """
    from captum.attr import IntegratedGradients

    def scores(sequences: Tensor) -> Tensor:
        return torch.stack([score(roots * roots.abs() ** (_DENSER - 1)) for roots in sequences])

    # All images are one example, and one point of the path is in memory at a time.
    roots = images.sign() * images.abs() ** (1 / _DENSER)
    found, error = IntegratedGradients(scores).attribute(
        roots.unsqueeze(0), n_steps=steps, internal_batch_size=1, return_convergence_delta=True
    )
    with torch.no_grad():
        at, nothing = float(score(images)), float(score(torch.zeros_like(images)))
    return Relevance(found[0].sum(dim=1).detach().float(), True, at, at - nothing, float(error))


def _grad_cam(backbone: nn.Module, score: Callable[[Tensor], Tensor], images: Tensor) -> Relevance:
    """By the map that the backbone pools into tokens, which every backbone has."""
    from captum.attr import LayerGradCam

    assert isinstance(backbone, Backbone)
    scores: list[float] = []

    def noted(images: Tensor) -> Tensor:
        found = score(images)
        scores.append(float(found.detach()))
        return found.unsqueeze(0)

    # Gradients pass through a frozen backbone only from images that want one.
    found = LayerGradCam(noted, backbone.pool).attribute(
        images.detach().requires_grad_(), attribute_to_layer_input=True, relu_attributions=True
    )
    return Relevance(_at_pixels(found.detach().squeeze(1), images.shape), False, scores[-1])


@torch.no_grad()
def _attention(reasoner: Reasoner, batch: TimelineBatch, place: tuple[int, int]) -> Relevance:
    """Where the question looked in the image at which it is asked."""
    assert isinstance(reasoner.backbone, Backbone)
    sides: list[Sequence[int]] = []
    hook = reasoner.backbone.pool.register_forward_hook(lambda _, __, tokens: sides.append(tokens.shape[2:]))
    try:
        reading = reasoner.explain(batch)
    finally:
        hook.remove()
    assert reading.maps is not None
    sequence, asked_at = place[0], int(batch.asked_at[place])
    here = torch.tensor([sequence, asked_at], device=batch.frame_index.device)
    grid = sides[0]
    shares = reading.maps[place].float().reshape(-1, *grid)  # one for each slice, if slices are kept
    maps = shares.new_zeros(len(batch.images), *shares.shape)
    maps[(batch.frame_index == here).all(dim=1)] = shares
    return Relevance(_at_pixels(maps.flatten(0, 1), batch.images.shape), False)


def _at_pixels(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """Maps of a grid at the resolution of the images, by linear interpolation.

    Args:
        maps: ``(N · S, *grid)``, S = 1, or the number of slices.
        shape: of the images, ``(N, C, *spatial)``.

    Returns:
        ``(N, *spatial)`` float32; of a volume whose slices share a map, the same in each.
    """
    count, spatial = shape[0], tuple(shape[2:])
    grid = maps.ndim - 1
    kind = "bilinear" if grid == 2 else "trilinear"
    sized = functional.interpolate(maps.float().unsqueeze(1), spatial[-grid:], mode=kind, align_corners=False)
    found = sized.squeeze(1).unflatten(0, (count, -1))  # (N, S, *sides)
    if grid == len(spatial):
        return found.squeeze(1)
    return found.expand(count, spatial[0], *found.shape[2:])

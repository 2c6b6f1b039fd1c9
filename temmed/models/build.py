"""A model from a configuration and what was fitted to the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from torch import nn

from temmed.data.fitted import Fitted
from temmed.data.pixels import Finish
from temmed.data.tokenizer import TextTokenizer
from temmed.errors import InputError
from temmed.models.adaptation import fix_unused
from temmed.models.base import TimelineModel
from temmed.models.heads.base import Sizes, build_heads
from temmed.models.reasoner import Reasoner


def _in_words(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))


def _places(backbone: nn.Module, fitted: Fitted, size: Sequence[int]) -> int:
    """Tokens that a backbone makes of an image.

    Raises:
        InputError: it takes no images of this size.
    """
    training = backbone.training
    try:
        with torch.inference_mode():
            return int(backbone.eval()(torch.zeros(1, len(fitted.channels), *size)).shape[1])
    except InputError:
        raise
    except (AssertionError, RuntimeError, ValueError) as error:
        remedy = "Set data.size to the size it was made for"
        raise InputError(
            f"a backbone that takes images of {_in_words(size)} pixels",
            str(error).splitlines()[0] if str(error) else type(error).__name__,
            "model.backbone.name",
            f"{remedy}; of a vision transformer, or add +model.backbone.options.dynamic_img_size=true.",
        ) from error
    finally:
        backbone.train(training)


def open_text(text: Mapping[str, Any]) -> tuple[dict[str, Any], TextTokenizer | None]:
    """What a text encoder brings along, read before the data are.

    Args:
        text: the ``model.text`` group, resolved.

    Returns:
        The group with all that building it again needs, and the encoder's tokenizer; ``None`` if that is fitted.

    Raises:
        InputError: a pretrained encoder is not to be had.
    """
    bring = getattr(get_class(text["_target_"]), "bring", None)
    return (dict(text), None) if bring is None else bring(text)


def _open_backbone(backbone: Mapping[str, Any], fitted: Fitted) -> tuple[nn.Module, int]:
    """The image encoder, and how many tokens it makes of an image."""
    found: nn.Module = instantiate(backbone, in_channels=len(fitted.channels), _convert_="all")
    places = _places(found, fitted, fitted.spatial)
    fix_unused(found, torch.zeros(1, len(fitted.channels), *fitted.spatial))
    return found, places


def build_model(model: Mapping[str, Any], fitted: Fitted) -> TimelineModel:
    """Build the model: one that writes its answers if ``generative`` says how, else a `Reasoner`.

    Args:
        model: the ``model`` group, resolved.
        fitted: channels, image size, vocabulary and scale of values.

    Raises:
        InputError: the parts do not fit each other or the data.
    """
    generative = model.get("generative") is not None
    _check_parts(model, generative)
    if not generative:
        return build_reasoner(model, fitted)
    backbone, _ = _open_backbone(model["backbone"], fitted)
    text = instantiate(model["text"], vocabulary=len(fitted.tokenizer), _convert_="all")
    # Given to `instantiate` itself, a dataclass would reach the model as a configuration.
    found: TimelineModel = instantiate(model["generative"], _partial_=True)(fitted=fitted, backbone=backbone, text=text)
    found.heads.update(build_heads(model["heads"], Sizes(text.width, text.width)))
    return found


def _check_parts(model: Mapping[str, Any], generative: bool) -> None:
    """Refuse parts of a model that writes its answers in one that scores them, and the other way round.

    Raises:
        InputError: there is such a part.
    """
    nodes = [("text", model["text"]), *(("heads", node) for node in model["heads"].values())]
    for group, node in nodes:
        if getattr(get_class(node["_target_"]), "writes", False) != generative:
            raise InputError(
                f"parts of a model that {'writes' if generative else 'scores'} its answers",
                node["_target_"],
                f"model/{group}",
                f"Leave model/{group} out, or choose {'another model' if generative else 'model=clip_vl'}.",
            )
    plain: dict[str, Any] = {"chunk": None, "previous_answers": {}, "train": "full"}
    if generative and (given := [key for key, value in plain.items() if model.get(key, value) != value]):
        raise InputError(
            "a model that reads visits and questions at once",
            given[0],
            f"model.{given[0]}",
            "Leave it out: a model that writes its answers has no such part.",
        )


def build_reasoner(model: Mapping[str, Any], fitted: Fitted) -> Reasoner:
    """Build the model.

    Args:
        model: the ``model`` group, resolved: ``dim, backbone, text, temporal, reader, heads, chunk,
            carry, previous_answers, train``.
        fitted: channels, image size and vocabulary.

    Returns:
        The model with fresh weights, but for those the backbone loads.

    Raises:
        InputError: the backbone does not take the images, or not every size if each sequence keeps its own; or no task
            head has a weight.
    """
    backbone, places = _open_backbone(model["backbone"], fitted)
    if fitted.native:
        *before, rows, columns = fitted.spatial
        other = (*before, rows + 32, columns + 64)
        if (found := _places(backbone, fitted, other)) != places:
            raise InputError(
                "as many tokens whatever the size of an image, for images that keep their own",
                f"{places} for {_in_words(fitted.spatial)}, {found} for {_in_words(other)}",
                "model.backbone.grid",
                "Set model.backbone.grid=8, or data.size=N.",
            )
    dim = int(model["dim"])
    reasoner = Reasoner(
        finish=Finish(fitted),
        backbone=backbone,
        text=instantiate(model["text"], vocabulary=len(fitted.tokenizer)),
        temporal=instantiate(model["temporal"]),
        reader=instantiate(model["reader"], places=places),
        dim=dim,
        places=places,
        chunk=model["chunk"],
        carry=model["carry"],
        previous=instantiate(model["previous_answers"]) if model["previous_answers"] else None,
    )
    reasoner.heads.update(build_heads(model["heads"], Sizes(dim, reasoner.reader.size, fitted.reports)))
    if reasoner.previous is not None and not {"answer", "value"} <= set(reasoner.heads):
        raise InputError(
            "heads for answers and values, to hear what they said",
            ", ".join(reasoner.heads),
            "model.previous_answers",
            "Choose model/previous_answers=none, or give both a weight above 0.",
        )
    if model["train"] == "outputs":
        reasoner.learn_outputs()
    return reasoner

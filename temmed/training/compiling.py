"""Compiling parts of a model, in place."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from temmed.errors import InputError


def compile_parts(model: nn.Module, parts: Sequence[str], backend: str, dynamic: bool | None) -> None:
    """Compile parts with ``torch.compile``, in place, so that checkpoints have the same keys with and without.

    Args:
        model: the `Reasoner`.
        parts: its attributes, for instance ``backbone``.
        backend: of ``torch.compile``.
        dynamic: expect other numbers of images, positions and questions in each batch; ``None`` finds out.

    Raises:
        InputError: a part does not exist.
    """
    known = dict(model.named_children())
    for part in parts:
        if part not in known:
            raise InputError(f"parts among {', '.join(known)}", repr(part), "compile.parts", "Correct the name.")
        known[part].compile(backend=backend, dynamic=dynamic)

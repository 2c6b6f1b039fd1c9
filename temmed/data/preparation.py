"""What every image goes through between its file and the model, in training, testing and predicting alike.

Nothing here is random, and nothing is fitted: it is part of the key of a cache, and is kept with a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: Changes when the same settings give other pixels than before.
_VERSION = 2


@dataclass(frozen=True)
class Preparation:
    """The steps, in the order in which they are taken.

    Attributes:
        register: ``rigid`` or ``affine``: follow-ups are moved onto the first visit.
        spacing: millimetres between pixels along rows and columns, or slices, rows and columns, to resample to.
        slices: a volume becomes so many of its slices, each a channel.
        size: ``(H, W)`` or ``(D, H, W)`` of what the model is given; ``None`` for the size each sequence has.
    """

    register: str | None = None
    spacing: tuple[float, ...] | None = None
    slices: int | None = None
    size: tuple[int, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for a checkpoint or JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Preparation:
        """The inverse of `to_dict`."""
        return cls(**{name: _plain(value) for name, value in saved.items()})

    def key(self) -> str:
        """A name that two preparations share only if they give the same pixels.

        Raises:
            InputError: images are to be registered, and SimpleITK is not installed.
        """
        used: list[Any] = [_VERSION, self.to_dict()]
        if self.register is not None:
            from temmed.data import registration

            used += [registration.VERSION, registration.require_simpleitk()]
        text = json.dumps(used, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value

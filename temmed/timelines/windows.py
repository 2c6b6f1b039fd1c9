"""Windows: the part of the grey scale that is spread from black to white, as radiologists set it for CT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from temmed.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: name -> centre and width, in Hounsfield units.
WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "soft": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}


class Window(NamedTuple):
    """Values from ``centre - width / 2`` to ``centre + width / 2`` become 0 to 1; what lies outside is clipped."""

    name: str
    centre: float
    width: float

    def apply(self, image: NDArray) -> NDArray[np.float32]:
        """The image in the window, from 0 to 1."""
        import numpy as np  # the configuration is checked before anything heavy is loaded

        return ((np.asarray(image, np.float32) - (self.centre - self.width / 2)) / self.width).clip(0, 1)


def read_windows(setting: Mapping[str, Sequence[Any]] | None, where: str = "data.windows") -> dict[str, list[Window]]:
    """Windows by modality.

    Args:
        setting: for a modality, names from `WINDOWS` or pairs of centre and width: ``{"ct": ["lung", [40, 400]]}``.
        where: how errors name the setting.

    Raises:
        InputError: an unknown name, a pair that is none, or the same window twice.

    Examples:
        >>> read_windows({"ct": ["soft", [-600, 1500]]})
        {'ct': [Window(name='soft', centre=40.0, width=400.0), Window(name='-600_1500', centre=-600.0, width=1500.0)]}
    """
    found: dict[str, list[Window]] = {}
    for modality, wanted in (setting or {}).items():
        place = f"{where}.{modality}"
        windows = [_window(one, place) for one in _list(wanted, place)]
        names = [window.name for window in windows]
        if len(set(names)) < len(names) or not names:
            raise InputError("different windows, one at least", repr(names), place, "Name each window once.")
        found[str(modality)] = windows
    return found


def _list(value: Any, where: str) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError("a list of windows", repr(value), where, f"Write {where}=[lung,soft].")
    return list(value)


def _window(one: Any, where: str) -> Window:
    if isinstance(one, str) and one in WINDOWS:
        return Window(one, *WINDOWS[one])
    pair = list(one) if isinstance(one, Sequence) and not isinstance(one, str) else []
    numbers = [float(n) for n in pair if isinstance(n, int | float) and not isinstance(n, bool)]
    if len(pair) != 2 or len(numbers) != 2 or not numbers[1] > 0:
        expected = f"{', '.join(WINDOWS)}, or [centre, width] with a width above 0"
        raise InputError(expected, repr(pair or one), where, "Name a window, or give its centre and width.")
    return Window(f"{numbers[0]:g}_{numbers[1]:g}", *numbers)

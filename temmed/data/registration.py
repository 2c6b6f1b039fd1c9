"""Follow-ups moved onto the first visit, by SimpleITK (the extra ``registration``), where that is an improvement.

Mattes mutual information (2003) is climbed from coarse to fine, from where the middles of both images meet. What is
found is judged at full resolution and over all that both images show, and by how far it moves the image.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from temmed.data.resampling import as_type, exact
from temmed.errors import InputError
from temmed.files import atomic_write

if TYPE_CHECKING:
    import SimpleITK

How = Literal["rigid", "affine"]
#: Changes when the same images give other motions than before.
VERSION = 1
_BINS = 32
#: Values that the optimiser looks at in each step; of larger images a sample, the same every time.
_SAMPLED = 100_000
#: No coarser than so many pixels along each side.
_COARSEST = 12
#: Bounds of what is believed: degrees, share of the largest side, factor along any direction, share of the first visit.
_MOST_ROTATION, _MOST_SHIFT, _MOST_SCALE, _LEAST_OVERLAP = 30.0, 0.25, 1.25, 0.6
#: The similarity must grow by this share, and reach this multiple of what misplaced images have.
_LEAST_GAIN, _LEAST_OVER_CHANCE = 0.01, 2.5


@dataclass(frozen=True)
class Motion:
    """How an image is moved onto another: a point x of the first visit shows what is at ``matrix x + shift``.

    Attributes:
        matrix: row by row, in the order (columns, rows, slices).
        shift: millimetres, or pixels where no spacing is told, from the middle of one image to that of the other.
        before: mutual information of the images as they are, in nats.
        after: when moved.
        chance: the most that it is when one of them is displaced on purpose.
        overlap: share of the first visit's pixels that the other image shows when moved.
        rotation: degrees.
        scale: the largest factor along any direction, or one over the smallest.
        accepted: whether it is applied.
        reason: why not.
    """

    matrix: tuple[float, ...]
    shift: tuple[float, ...]
    before: float
    after: float
    chance: float
    overlap: float
    rotation: float
    scale: float
    accepted: bool
    reason: str

    @property
    def distance(self) -> float:
        """How far the middle is shifted."""
        return math.hypot(*self.shift)


def require_simpleitk() -> str:
    """The version of SimpleITK.

    Raises:
        InputError: it is not installed.
    """
    try:
        return version("SimpleITK")
    except PackageNotFoundError as error:
        raise InputError(
            "SimpleITK, which registers images",
            "it is not installed",
            "data.register",
            "Install it: `pip install 'temmed[registration]'`, or set data.register=null.",
        ) from error


def find_motion(
    fixed: NDArray,
    moving: NDArray,
    how: How,
    spacings: tuple[Sequence[float], Sequence[float]],
    folder: Path | None = None,
) -> Motion:
    """How ``moving`` is brought onto ``fixed``.

    Args:
        fixed: an image of the first visit, ``(*spatial)``.
        moving: one of another visit.
        how: ``rigid`` or ``affine``.
        spacings: of both, along their axes.
        folder: keeps what was found, by the content of the images, the settings and the version of SimpleITK.

    Raises:
        InputError: SimpleITK is not installed.
    """
    path = None if folder is None else folder / f"{_key(fixed, moving, how, spacings)}.json"
    if path is not None and path.exists():
        saved: dict[str, Any] = json.loads(path.read_text())
        return Motion(**{**saved, "matrix": tuple(saved["matrix"]), "shift": tuple(saved["shift"])})
    motion = _search(fixed, moving, how, spacings)
    if path is not None:
        atomic_write(path, json.dumps(asdict(motion)))
    return motion


def apply_motion(
    motion: Motion, image: NDArray, size: Sequence[int], spacings: tuple[Sequence[float], Sequence[float]]
) -> NDArray:
    """An image of another visit on the grid of the first, in its own number type; its least value where it shows none.

    Args:
        motion: how it is moved.
        image: ``(*spatial)``.
        size: of the first visit's image.
        spacings: of the first visit's image, and of this one.
    """
    source = _image(image, spacings[1], exact(image.dtype))
    moved = _moved(source, _grid(size, spacings[0]), _transform(motion), float(image.min()))
    return as_type(moved, image.dtype)


def _key(fixed: NDArray, moving: NDArray, how: str, spacings: tuple[Sequence[float], Sequence[float]]) -> str:
    settings = [VERSION, require_simpleitk(), how, *(list(map(float, spacing)) for spacing in spacings)]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    for image in (fixed, moving):
        digest.update(f"{image.dtype.str}{image.shape}".encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _grid(size: Sequence[int], spacing: Sequence[float]) -> SimpleITK.Image:
    """An empty image whose middle is the origin of space."""
    import SimpleITK as sitk  # noqa: N813

    steps = [float(step) for step in spacing[::-1]]
    grid = sitk.Image([int(n) for n in size[::-1]], sitk.sitkFloat32)
    grid.SetSpacing(steps)
    grid.SetOrigin([-(n - 1) / 2 * step for n, step in zip(size[::-1], steps, strict=True)])
    return grid


def _image(pixels: NDArray, spacing: Sequence[float], kind: DTypeLike = np.float32) -> SimpleITK.Image:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels, dtype=kind))
    image.CopyInformation(_grid(pixels.shape, spacing))
    return image


def _moved(image: SimpleITK.Image, grid: SimpleITK.Image, transform: SimpleITK.Transform, outside: float) -> NDArray:
    import SimpleITK as sitk  # noqa: N813

    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(grid)
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(outside)
    resampler.SetNumberOfThreads(1)
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)))


def _transform(motion: Motion) -> SimpleITK.Transform:
    import SimpleITK as sitk  # noqa: N813

    transform = sitk.AffineTransform(len(motion.shift))
    transform.SetMatrix(motion.matrix)
    transform.SetTranslation(motion.shift)
    return transform


def _search(fixed: NDArray, moving: NDArray, how: How, spacings: tuple[Sequence[float], Sequence[float]]) -> Motion:
    require_simpleitk()
    import SimpleITK as sitk  # noqa: N813

    target, image, dims = _image(fixed, spacings[0]), _image(moving, spacings[1]), fixed.ndim
    identity = sitk.AffineTransform(dims)
    if min(np.ptp(fixed), np.ptp(moving)) == 0:
        return _judged(target, image, identity, "an image of one value")
    if fixed.shape == moving.shape and np.array_equal(fixed, moving):
        return _judged(target, image, identity, "the same image")
    start: Any = sitk.Euler2DTransform() if dims == 2 else sitk.Euler3DTransform()
    try:
        found = _climb(target, image, start)
        if how == "affine":
            whole = sitk.AffineTransform(dims)
            whole.SetMatrix(found.GetMatrix())
            whole.SetTranslation(found.GetTranslation())
            found = _climb(target, image, whole)
    except RuntimeError:
        # So SimpleITK says that the images no longer overlap on the way.
        return _judged(target, image, identity, "no overlap while searching")
    result = sitk.AffineTransform(dims)
    result.SetMatrix(found.GetMatrix())
    result.SetTranslation(found.GetTranslation())
    return _judged(target, image, result)


def _climb(fixed: SimpleITK.Image, moving: SimpleITK.Image, start: Any) -> Any:
    """The best transform from ``start`` on, which is changed."""
    import SimpleITK as sitk  # noqa: N813

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in another order would give other numbers
    method.SetMetricAsMattesMutualInformation(_BINS)
    pixels = math.prod(fixed.GetSize())
    if pixels > _SAMPLED:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(_SAMPLED / pixels, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    side = min(*fixed.GetSize(), *moving.GetSize())
    factors = [factor for factor in (8, 4, 2) if side // factor >= _COARSEST] + [1]
    method.SetShrinkFactorsPerLevel(factors)
    method.SetSmoothingSigmasPerLevel([factor / 2 if factor > 1 else 0.0 for factor in factors])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    return start


def _judged(fixed: SimpleITK.Image, moving: SimpleITK.Image, transform: Any, reason: str = "") -> Motion:
    """A transform with what is known of it; it is accepted unless it has a reason against it."""
    import SimpleITK as sitk  # noqa: N813

    target = sitk.GetArrayViewFromImage(fixed)
    here = sitk.AffineTransform(fixed.GetDimension())
    before = similarity(target, _moved(moving, fixed, here, np.nan))
    image = _moved(moving, fixed, transform, np.nan)
    after, overlap = similarity(target, image), float(np.isfinite(image).mean())
    quarters = [np.roll(image, [n * k // 4 for n in image.shape], range(image.ndim)) for k in (1, 2, 3)]
    chance = max(similarity(target, displaced) for displaced in quarters)
    shift, matrix = transform.GetTranslation(), np.reshape(transform.GetMatrix(), (len(image.shape),) * 2)
    left, sizes, right = np.linalg.svd(matrix)
    turn = left @ right
    cosine = (np.trace(turn) - (image.ndim - 2)) / 2
    rotation = math.degrees(math.acos(float(np.clip(cosine, -1, 1))))
    scale = float(max(sizes.max(), 1 / max(sizes.min(), 1e-9)))
    sides = [n * step for n, step in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    found = {
        "turned too far": rotation > _MOST_ROTATION or np.linalg.det(matrix) <= 0,
        "shifted too far": math.hypot(*shift) > _MOST_SHIFT * max(sides),
        "scaled too far": scale > _MOST_SCALE,
        "too little overlap": overlap < _LEAST_OVERLAP,
        "no likeness beyond chance": after < _LEAST_OVER_CHANCE * chance,
        "no gain": after < (1 + _LEAST_GAIN) * before,
    }
    reason = reason or next((text for text, wrong in found.items() if wrong), "")
    return Motion(
        matrix=tuple(map(float, matrix.ravel())),
        shift=tuple(map(float, shift)),
        before=before,
        after=after,
        chance=chance,
        overlap=overlap,
        rotation=rotation,
        scale=scale,
        accepted=not reason,
        reason=reason,
    )


def similarity(one: NDArray, other: NDArray) -> float:
    """Mutual information of two images, in nats, over the pixels that both show; 0 where fewer than a tenth do.

    Args:
        one: ``(*spatial)``, NaN where it shows nothing.
        other: of the same size, likewise.
    """
    both = np.isfinite(one) & np.isfinite(other)
    if both.mean() < 0.1:
        return 0.0
    counts, _, _ = np.histogram2d(one[both], other[both], bins=_BINS)
    joint = counts / counts.sum()
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    known = joint > 0
    return float((joint[known] * np.log(joint[known] / product[known])).sum())

"""The truth that is written is what the pixels show: measured back from the difference to the real images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage
from scipy.spatial.distance import pdist

from temmed.timelines.folder import Timeline
from temmed.timelines.implant.blend import INSIDE, cover
from temmed.timelines.implant.images import drawn_at, implanted
from temmed.timelines.implant.plan import Drawn
from temmed.timelines.implant.scene import Scene, read_scene
from temmed.timelines.implant.visits import repeated, residual

from .conftest import CT, LOOP, MR, drawn_in, task_of

KINDS = [CT, MR, LOOP, "volume", "abdomen"]
#: Ratio of the grain (residual above about a pixel and a half) of a finding to that of the same pixels without it.
GRAIN = (0.8, 1.25)
#: The same to that of the ring around it, whose tissue may be another one.
GRAIN_AROUND = (0.5, 2.5)


class Case(NamedTuple):
    """Images without and with findings, and the masks."""

    scene: Scene
    drawn: Drawn
    images: dict[int, dict[str, np.ndarray]]
    masks: dict[int, list[np.ndarray]]

    def grey(self, position: int) -> np.ndarray:
        image = self.images[position][self.scene.main].astype(float)
        return image.mean(axis=-1) if image.ndim > self.scene.dims else image

    def present(self) -> list[tuple[int, int]]:
        """(position, number of the finding) of those that are shown; of long loops every fifth frame."""
        step = 5 if len(self.scene.positions) > 10 else 1
        return [
            (position, number)
            for position in self.scene.positions[::step]
            for number, truth in enumerate(self.drawn.course.findings)
            if truth.diameters[position] > 0
        ]


@pytest.fixture(scope="session")
def case(real: Timeline, volumes: Timeline, abdomen: Timeline) -> Callable[[str], Case]:
    made: dict[str, Case] = {}
    single = {"volume": volumes, "abdomen": abdomen}

    def make(kind: str) -> Case:
        if kind not in made:
            timeline = single.get(kind, real)
            task = task_of(timeline, MR if kind in single else kind)
            scene = read_scene(timeline.root, task)
            if len(scene.positions) == 1:
                scene = repeated(scene, 6, kind == CT, np.random.default_rng(3))
            drawn = drawn_in(scene, task, seed=3)
            made[kind] = Case(scene, drawn, *implanted(scene, drawn))
        return made[kind]

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_outside_nothing_changes(case: Callable[[str], Case], kind: str) -> None:
    found = case(kind)
    places = drawn_at(found.scene, found.drawn)
    for position in found.scene.positions:
        spacing = found.scene.spacing(position)
        touched = np.zeros(found.grey(position).shape, bool)
        for finding, truth in zip(places[position], found.drawn.course.findings, strict=True):
            if truth.diameters[position] > 0:
                block, share = cover(finding, float(truth.diameters[position]), touched.shape, spacing)
                touched[block] |= share > 0
        before, after = found.scene.images[position], found.images[position]
        for channel in before:
            assert after[channel].dtype == before[channel].dtype
            assert_array_equal(after[channel][~touched], before[channel][~touched])
        # The margin is soft, and narrow.
        inside = np.any([mask > 0 for mask in found.masks[position]], axis=0)
        reach = 2.5 * max(finding.look.margin for finding in found.drawn.findings) + 1.5 * max(spacing)
        assert not (touched & (ndimage.distance_transform_edt(~inside, sampling=spacing) > reach)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_inside_changes_as_the_course_says(case: Callable[[str], Case], kind: str) -> None:
    found = case(kind)
    assert len(found.present()) > 3 or kind == "volume"
    for position, number in found.present():
        inside = found.masks[position][number] > 0
        change = found.grey(position) - found.scene.grey(position)
        amplitude = found.drawn.findings[number].amplitudes[found.scene.main]
        typical = float(np.median(change[inside]))
        assert np.sign(typical) == np.sign(amplitude)
        assert 0.6 < typical / amplitude < 1.4
        # The size at half the height, measured back without knowing the mask: radius of as large a disc (ball).
        change *= np.sign(typical)
        label, _ = ndimage.label(change > INSIDE * np.percentile(change[inside], 90))
        nearby = np.unique(label[inside])
        sizes = np.array([np.isin(label, nearby[nearby > 0]).sum(), inside.sum()])
        radii = np.sqrt(sizes / np.pi) if inside.ndim == 2 else np.cbrt(sizes * 0.75 / np.pi)
        # To 0.6 pixels, or a tenth: the contrast is uneven on purpose.
        assert abs(radii[0] - radii[1]) < max(0.6, 0.1 * radii[1])


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_as_long_as_the_truth_says(case: Callable[[str], Case], kind: str) -> None:
    found = case(kind)
    for position, number in found.present():
        mask = found.masks[position][number] > 0
        spacing = found.scene.spacing(position)
        slices = mask[None] if mask.ndim == 2 else mask
        points = [np.argwhere(one) * spacing[-2:] for one in slices if one.sum() > 1]
        longest = max(float(pdist(one).max()) for one in points)
        truth = float(found.drawn.course.findings[number].diameters[position])
        assert longest == pytest.approx(truth, abs=1.6 * max(spacing[-2:]))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != MR])
def test_the_grain_is_that_of_the_tissue(case: Callable[[str], Case], kind: str) -> None:
    # Of MR_small, whose findings are seven pixels wide, nothing is left inside of the margin.
    found = case(kind)
    inside, without, around = [], [], []
    for position, number in found.present():
        mask = found.masks[position][number] > 0
        square = np.ones((1,) * (mask.ndim - 2) + (3, 3), bool)
        core = ndimage.binary_erosion(mask, square, 2)
        everything = np.any([other > 0 for other in found.masks[position]], axis=0)
        ring = ndimage.binary_dilation(mask, square, 6) & ~ndimage.binary_dilation(everything, square, 3)
        both = (found.grey(position), found.scene.grey(position))
        after, before = (residual(image.astype(np.float32)) for image in both)
        if core.sum() >= 9:
            for values, part in ((inside, after[core]), (without, before[core]), (around, after[ring])):
                values.append(part - part.mean())
    # Half the range of the middle two thirds, so that vessels and bone nearby do not count as grain.
    middle = [np.percentile(np.concatenate(values), (84, 16)) for values in (inside, without, around)]
    grains = [float(high - low) for high, low in middle]
    assert sum(map(len, inside)) > 60
    assert GRAIN[0] < grains[0] / grains[1] < GRAIN[1]
    assert GRAIN_AROUND[0] < grains[0] / grains[2] < GRAIN_AROUND[1]


@pytest.mark.parametrize("kind", KINDS)
def test_findings_do_not_touch(case: Callable[[str], Case], kind: str) -> None:
    found = case(kind)
    for position in found.scene.positions:
        assert np.sum([mask > 0 for mask in found.masks[position]], axis=0).max() <= 1


def test_brightness_follows_the_contrast_of_each_visit(case: Callable[[str], Case]) -> None:
    found = case(MR)
    for number, finding in enumerate(found.drawn.findings):
        shown = [position for position, which in found.present() if which == number]
        changes = []
        for position in shown:
            inside = found.masks[position][number] > 0
            change = (found.grey(position) - found.scene.grey(position))[inside]
            changes.append(float(np.median(change)) / finding.amplitudes[found.scene.main])
        assert np.ptp(changes) < 0.4


def test_equal_seeds_draw_equal_findings(real: Timeline) -> None:
    task = task_of(real, LOOP)
    scene = read_scene(real.root, task)
    first, second, other = (drawn_in(scene, task, seed) for seed in (5, 5, 6))
    assert first.findings == second.findings
    assert first.findings != other.findings

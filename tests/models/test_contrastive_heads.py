"""Alignment and selection: losses as loops over items, and two processes as one."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from temmed.data.batch import TimelineBatch
from temmed.models.heads.alignment import Aligned, AlignmentHead
from temmed.models.heads.base import Sizes
from temmed.models.heads.selection import Pairs, SelectionHead

SIZES = Sizes(dim=8, read=6)


def _batch(**fields: Any) -> TimelineBatch:
    """As much of a batch as a loss looks at."""
    return cast(TimelineBatch, SimpleNamespace(**fields))


def _unit(*shape: int, seed: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


def _reports(patients: list[int], mask: list[list[bool]]) -> TimelineBatch:
    there = torch.tensor(mask)
    return _batch(
        patients=torch.tensor(patients),
        written_mask=there,
        written_at=torch.zeros_like(there, dtype=torch.long),
        image_mask=torch.ones_like(there),
    )


PATIENTS = [1, 2, 1, 3, 4]
MASK = [[True, True], [True, False], [True, True], [False, False], [True, True]]


def _aligned() -> Aligned:
    return Aligned(_unit(5, 2, 4, seed=1), _unit(5, 2, 4, seed=2))


def _naive_alignment(head: AlignmentHead) -> float:
    said = _aligned()
    items = [(PATIENTS[b], said.images[b, r], said.reports[b, r]) for b in range(5) for r in range(2) if MASK[b][r]]
    scale = math.exp(min(float(head.temperature.log_scale), head.temperature.most))
    total = 0.0
    for n, (patient, image, report) in enumerate(items):
        for own, others in ((image, [r for _, _, r in items]), (report, [i for _, i, _ in items])):
            scores = [
                scale * float(own @ other)
                for m, ((whose, _, _), other) in enumerate(zip(items, others, strict=True))
                if whose != patient or m == n
            ]
            total += (math.log(sum(map(math.exp, scores))) - scale * float(own @ others[n])) / 2
    return total


@pytest.mark.parametrize("temperature", [0.2, 0.001])  # the second is below the least
def test_alignment_is_a_loop_over_reports(temperature: float) -> None:
    head = AlignmentHead(SIZES, 1.0, size=4, temperature=temperature, least_temperature=0.05)
    loss = head.loss(_aligned(), _reports(PATIENTS, MASK))
    assert float(loss) == pytest.approx(_naive_alignment(head), rel=1e-6)


def test_the_nearest_report_of_another_patient_is_a_miss() -> None:
    head = AlignmentHead(SIZES, 1.0, size=2)
    east, north = [1.0, 0.0], [0.0, 1.0]
    said = Aligned(torch.tensor([[east], [north], [north]]), torch.tensor([[east], [[0.6, 0.8]], [north]]))
    batch = _reports([1, 2, 3], [[True]] * 3)
    assert head.hits(said, batch) == 2
    # The nearer one of the same patient does not count.
    assert head.hits(said, _reports([1, 2, 2], [[True]] * 3)) == 3


#: Which sequences are in which process: parts of unlike size; and a process that has no report at all.
CASES = [(slice(0, 2), slice(2, 5)), (slice(3, 4), slice(0, 3))]


def _learn(rows: list[int]) -> dict[str, Any]:
    """The loss of some sequences, and its gradients."""
    leaves = [_unit(5, 2, 4, seed=seed)[rows].requires_grad_() for seed in (1, 2)]
    head = AlignmentHead(SIZES, 1.0, size=4).double().train()
    loss = head.loss(Aligned(*leaves), _reports([PATIENTS[n] for n in rows], [MASK[n] for n in rows]))
    loss.backward()
    return {"loss": loss.detach(), "scale": head.temperature.log_scale.grad, "grads": [leaf.grad for leaf in leaves]}


def _in_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save([_learn(list(range(5))[parts[rank]]) for parts in CASES], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_see_the_negatives_of_both(tmp_path: Path) -> None:
    mp.spawn(_in_process, args=(str(tmp_path),), nprocs=2)
    for parts, *found in zip(CASES, *(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True):
        whole = _learn([n for part in parts for n in range(5)[part]])
        for name in ("loss", "scale"):
            torch.testing.assert_close(sum(part[name] for part in found), whole[name])
        for n, grad in enumerate(whole["grads"]):
            assert grad.any()
            torch.testing.assert_close(torch.cat([part["grads"][n] for part in found]), grad)


def test_selection_is_a_loop_over_statements() -> None:
    head = SelectionHead(SIZES, 1.0, size=4)
    # Sequence, position, words, whether it is true; a position without an image before it has no pair.
    told = [
        [(1, 7, True), (1, 8, True), (2, 7, True)],
        [(2, 7, True), (1, 9, False), (0, 5, True)],
        [(2, 8, True), (1, 6, True), (2, 6, True)],
    ]
    field = torch.tensor([[[p, w, c] for p, w, c in row] for row in told])
    batch = _batch(
        statements=field[..., 1:2],
        statement_position=field[..., 0],
        statement_consistent=field[..., 2].bool(),
        statement_mask=torch.ones(3, 3, dtype=torch.bool),
        image_mask=torch.ones(3, 3, dtype=torch.bool),
        mask=torch.ones(3, 3, dtype=torch.bool),
    )
    said = Pairs(_unit(3, 3, 4, seed=3), _unit(3, 3, 4, seed=4))
    items = [(b, s) for b in range(3) for s in range(3) if told[b][s][2] and told[b][s][0] > 0]
    pair = {item: (item[0], told[item[0]][item[1]][0]) for item in items}
    words = {item: told[item[0]][item[1]][1] for item in items}
    true_of = {(words[item], pair[item]) for item in items}
    total, hits, scale = 0.0, 0, math.exp(float(head.temperature.log_scale))
    for item in items:
        options = [o for o in items if o == item or (words[item], pair[o]) not in true_of]
        scores = [scale * float(said.sentences[item] @ said.pairs[o]) for o in options]
        own = scores[options.index(item)]
        total += math.log(sum(map(math.exp, scores))) - own
        hits += own == max(scores)
        assert 1 < len(options) < len(items)
    assert float(head.loss(said, batch)) == pytest.approx(total, rel=1e-6)
    assert int(head.hits(said, batch)) == hits

"""Long sequences read in chunks: the same answers, losses and gradients as read whole, at a fraction of the memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from temmed.config.paths import conf_dir
from temmed.data.batch import TimelineBatch
from temmed.data.collate import Collator
from temmed.data.fitted import Fitted
from temmed.errors import InputError
from temmed.models.chunks import Deferred
from temmed.models.readers.place_and_moment import PlaceAndMoment
from temmed.models.reasoner import Reasoner

from ..memory import peak_bytes
from .sequences import LENGTH, assert_close, make_batch, make_item, make_model, outcome

HEADS, READERS = (
    sorted(path.stem for path in (Path(conf_dir()) / "model" / part).glob("*.yaml")) for part in ("temporal", "reader")
)


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("asked_from", [0, LENGTH - 1])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.usefixtures("float64")
def test_chunks_give_what_the_whole_gives(
    head: str, asked_from: int, model_config: Callable[..., dict[str, Any]], fitted: Fitted
) -> None:
    batch = make_batch(asked_from)
    assert not batch.mask.all()
    assert not batch.image_mask[batch.mask].all()
    model = make_model(model_config(head), fitted)
    said, gradients = outcome(model, batch)
    for model.chunk in (1, 2, 4, LENGTH - 1):
        again, others = outcome(model, batch)
        assert_close(said, again, 1e-9)
        assert_close(gradients, others, 1e-9)


@pytest.mark.parametrize("head", HEADS)
def test_in_float32_and_evaluation_too(head: str, model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> None:
    batch, model = make_batch(), make_model(model_config(head), fitted)
    said, gradients = outcome(model, batch)
    model.chunk = 4
    again, others = outcome(model, batch)
    assert_close(said, again, 1e-5)
    assert_close(gradients, others, 1e-5)
    with torch.no_grad():
        event = model.eval()(batch)["event"]
    assert_close({"event": said["event"]}, {"event": event}, 1e-5)


@pytest.mark.parametrize("name", READERS)
def test_every_reader_reads_chunks(name: str, model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> None:
    config = model_config()
    node = OmegaConf.load(Path(conf_dir()) / "model" / "reader" / f"{name}.yaml")
    reader = OmegaConf.to_container(OmegaConf.merge(node, {"dim": 16, "heads": 3}))
    batch, model = make_batch(), make_model(config | {"reader": reader}, fitted)
    said, gradients = outcome(model, batch)
    model.chunk = 4
    again, others = outcome(model, batch)
    assert_close(said, again, 1e-5)
    assert_close(gradients, others, 1e-5)


def test_detached_chunks_say_the_same_and_learn_nothing_from_chunks_before(
    model_config: Callable[..., dict[str, Any]], fitted: Fitted
) -> None:
    # What is asked in the last chunk, of images before it.
    batch = make_batch(LENGTH - 1)
    features = replace(batch, images=torch.randn(len(batch.images), 4, 16, requires_grad=True), is_features=True)
    said, reached = {}, {}
    for carry in ("exact", "detach"):
        model = make_model(model_config("memory_fusion") | {"chunk": 4, "carry": carry}, fitted)
        torch.manual_seed(0)
        model.project = nn.Linear(16, 16)
        features.images.grad = None
        said[carry] = model(features)["answer"]
        model.tasks["answer"].loss(said[carry], batch).backward()
        assert features.images.grad is not None
        reached[carry] = features.images.grad[:, 0].abs().sum(dim=-1) > 0
    assert torch.equal(said["exact"], said["detach"])
    first = batch.frame_index[:, 0] == 0
    early = first & (batch.frame_index[:, 1] < 8)
    assert reached["exact"][early].all()
    assert not reached["detach"][early].any()


def test_evaluation_keeps_nothing_to_compute_again(
    model_config: Callable[..., dict[str, Any]], fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(model_config("memory_fusion") | {"chunk": 2}, fitted).eval()
    calls = []
    encode = model.encode_images
    monkeypatch.setattr(model, "encode_images", lambda batch: calls.append(len(batch.images)) or encode(batch))
    batch = make_batch()
    with torch.no_grad():
        model(batch)
    assert sum(calls) == len(batch.images)
    assert max(calls) <= 2 * len(batch)
    calls.clear()
    model(batch)["value"].sum().backward()
    assert sum(calls) == 2 * len(batch.images)


def test_a_head_that_takes_all_images_at_once_is_refused() -> None:
    deferred = Deferred(make_batch(), None, {}, PlaceAndMoment(16, 4), True)
    for name in ("images", "memory"):
        with pytest.raises(InputError, match=rf"model\.chunk: .* found one that takes all {name} at once"):
            getattr(deferred, name)
    assert not hasattr(deferred, "tokens")


def _peaks(config: dict[str, Any], saved: dict[str, Any]) -> list[int]:
    """Bytes that a training step on 2,000 frames adds to this process at the most: in chunks, then whole."""
    torch.set_num_threads(1)
    fitted = Fitted.from_dict(saved)
    batch = Collator("past")([make_item(n, 2000, 1900) for n in range(4)])
    model = make_model(config, fitted)
    outcome(model, make_batch())  # what is there once, whatever the length
    peaks = [peak_bytes()]
    for model.chunk in (50, None):
        outcome(model, batch)
        peaks.append(peak_bytes())
    return [peak - peaks[0] for peak in peaks[1:]]


@pytest.mark.slow
def test_memory_is_that_of_a_chunk(model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        chunked, whole = pool.submit(_peaks, model_config("mean_pool"), fitted.to_dict()).result()
    print(f"chunked {chunked / 2**20:.0f} MB, whole {whole / 2**20:.0f} MB")
    # What is said of every position (events, sizes) and the frames themselves are there in both.
    assert 0 < chunked < whole / 3


class _Loss(nn.Module):
    """What a training step computes within the wrapper of all processes, but for losses that compare processes."""

    def __init__(self, model: Reasoner) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TimelineBatch) -> Tensor:
        output = self.model(batch)
        heads = {name: head for name, head in self.model.tasks.items() if not head.contrastive}
        return torch.stack([head.loss(output[name], batch) for name, head in heads.items()]).sum()


def _gradients(model: nn.Module, batch: TimelineBatch) -> dict[str, Tensor]:
    model.zero_grad()
    model(batch).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def _on_two(rank: int, store: str, config: dict[str, Any], saved: dict[str, Any]) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        model = _Loss(make_model(config, Fitted.from_dict(saved)))
        gradients = _gradients(DistributedDataParallel(model, find_unused_parameters=True), _share(rank))
    finally:
        dist.destroy_process_group()
    return {name.removeprefix("module."): gradient for name, gradient in gradients.items()}


def _share(rank: int) -> TimelineBatch:
    """Of two processes; one has shorter sequences, and so fewer chunks."""
    return Collator("past")([make_item(rank, LENGTH if rank else 3), make_item(2 + rank, 2)])


@pytest.mark.slow
def test_two_processes_get_the_mean_gradient(
    model_config: Callable[..., dict[str, Any]], fitted: Fitted, tmp_path: Path
) -> None:
    config = model_config("memory_fusion")
    model = _Loss(make_model(config, fitted))
    alone = [_gradients(model, _share(rank)) for rank in range(2)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        arguments = (str(tmp_path / "store"), config | {"chunk": 2}, fitted.to_dict())
        found = [job.result() for job in [pool.submit(_on_two, rank, *arguments) for rank in range(2)]]
    expected = {name: (alone[0][name] + alone[1][name]) / 2 for name in alone[0]}
    for gradients in found:
        assert_close(expected, gradients, 1e-5)

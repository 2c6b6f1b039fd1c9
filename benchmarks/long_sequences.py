"""What a position costs each temporal head as sequences grow, streamed and whole, beside other libraries' encoders.

Frames a second, forward and backward, of every head of conf/model/temporal as its YAML describes it, over sequences of
256 to 16,384 frames; of torch.nn.GRU of the same width over the same rows; and of encoders of the kinds of VideoMAE
and ViViT (Hugging Face, small and random) whose tokens are the same frames, one tube or patch for each. One sequence,
K places, D features. Heads whose cost grows, and the encoders, are measured up to the length that fits.

Streaming: seconds of a `step`, and bytes of the state, after 256 and after 16,384 frames, measured in turn.

Usage: python benchmarks/long_sequences.py [--repeats 5] [--lengths 256 1024] [--heads gru ssm] [--out FILE]
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import ROOT, Ratio, in_turn, parser, report
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from transformers import VideoMAEConfig, VideoMAEModel, VivitConfig, VivitModel

from temmed.models.temporal.base import State, TemporalHead

PLACES, DIM = 4, 64
LENGTHS = (256, 1024, 4096, 16384)
#: The longest sequence of what costs more the longer it is.
FULL = 4096
#: Those that must not cost more, and the one that must keep up with the recurrence of torch.
LINEAR = ("memory_tokens", "memory_fusion", "ssm", "gru", "conv")
COST, GRU = 1.2, 0.5
STEPS = 32

Pass = Callable[[], Tensor]


def heads() -> dict[str, TemporalHead]:
    """Every temporal head, as configured."""
    made = {}
    for path in sorted((ROOT / "conf" / "model" / "temporal").glob("*.yaml")):
        config = OmegaConf.merge({"model": {"dim": DIM}, "it": OmegaConf.load(path)})
        resolved = OmegaConf.to_container(config, resolve=True)
        assert isinstance(resolved, dict)
        made[path.stem] = instantiate(resolved["it"])
    return made


def of_head(head: TemporalHead, length: int) -> Pass:
    """A pass of a head over one sequence, down to one number."""
    tokens = torch.randn(1, length, PLACES, DIM, requires_grad=True)
    times, there = torch.arange(float(length))[None], torch.ones(1, length, dtype=torch.bool)
    return lambda: head(tokens, times, there, there)[0].values.square().sum()


def of_gru(length: int) -> Pass:
    """A pass of torch's own recurrence over the rows of the places."""
    gru = nn.GRU(DIM, DIM, batch_first=True)
    tokens = torch.randn(PLACES, length, DIM, requires_grad=True)
    return lambda: gru(tokens)[0].square().sum()


def of_video(kind: str, length: int) -> Pass:
    """A pass of a video encoder over frames of as many patches as there are places."""
    side, patch = 16, round(16 / PLACES**0.5)
    sizes: dict[str, Any] = {
        "image_size": side,
        "num_frames": length,
        "hidden_size": DIM,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 2 * DIM,
    }
    model: nn.Module
    if kind == "VideoMAE":
        model = VideoMAEModel(VideoMAEConfig(patch_size=patch, tubelet_size=1, **sizes))
    else:
        model = VivitModel(VivitConfig(tubelet_size=[1, patch, patch], **sizes))
    frames = torch.randn(1, length, 3, side, side)
    return lambda: model(frames).last_hidden_state.square().sum()


def seconds_per_frame(make: Callable[[int], Pass], length: int) -> Callable[[], float]:
    """Seconds of a pass there and back, for each frame; as many passes as make 512 frames are one measurement."""
    one = make(length)
    passes = max(1, 512 // length)

    def measure() -> float:
        started = time.perf_counter()
        for _ in range(passes):
            one().backward()
        return (time.perf_counter() - started) / (passes * length)

    return measure


def states(head: TemporalHead, length: int) -> dict[int, State]:
    """What a head carries after 256 frames and at the end of a sequence, read frame by frame."""
    tokens, held = torch.randn(1, PLACES, DIM), dict[int, State]()
    state: State | None = None
    with torch.inference_mode():
        for position in range(length):
            _, state = head.step(tokens, torch.tensor([float(position)]), state)
            if position + 1 in (LENGTHS[0], length):
                held[position + 1] = state
    return held


def seconds_per_step(head: TemporalHead, position: int, state: State) -> Callable[[], float]:
    """Median seconds of a step, of those that follow a position."""
    tokens = torch.randn(1, PLACES, DIM)

    def measure() -> float:
        after, taken = state, []
        with torch.inference_mode():
            for time_ in range(position, position + STEPS):
                started = time.perf_counter()
                _, after = head.step(tokens, torch.tensor([float(time_)]), after)
                taken.append(time.perf_counter() - started)
        return statistics.median(taken)

    return measure


def streamed(name: str, head: TemporalHead, length: int, repeats: int) -> tuple[list[Ratio], dict[str, Any]]:
    """A step and the state at the end of a sequence, of those after 256 frames; printed."""
    held = states(head, length)
    sizes = [sum(value.numel() * value.element_size() for value in state.values()) for state in held.values()]
    found = in_turn({str(place): seconds_per_step(head, place, state) for place, state in held.items()}, repeats)
    early, late = found.values()
    first, last = (1e6 * statistics.median(taken) for taken in (early, late))
    print(f"{name:<22} step {first:6.0f} → {last:6.0f} µs, state {sizes[0]} → {sizes[1]} bytes at {length}")
    linear = name in LINEAR
    of = f"at {length}, of {LENGTHS[0]}"
    ratios = [
        Ratio.of(f"{name}: seconds of a step {of}", late, early, COST if linear else None, True),
        Ratio.of(f"{name}: bytes of the state {of}", sizes[1:], sizes[:1], 1.0 if linear else None, True),
    ]
    return ratios, {"seconds": found, "bytes": sizes}


def curve(name: str, make: Callable[[int], Pass], lengths: list[int], repeats: int) -> dict[int, list[float]]:
    """Seconds per frame at each length, measured in turn; printed."""
    found = in_turn({str(length): seconds_per_frame(make, length) for length in lengths}, repeats)
    told = "  ".join(f"{1 / statistics.median(found[str(length)]):9.0f}" for length in lengths)
    print(f"{name:<22} {told}  frames/s", flush=True)
    return {length: found[str(length)] for length in lengths}


def costs(name: str, found: dict[int, list[float]]) -> list[Ratio]:
    """Seconds per frame at each length, of those at the least; with a bar at the last for those that are linear."""
    first, *longer = found
    last = longer[-1] if longer else None
    return [
        Ratio.of(
            f"{name}: seconds per frame at {length}, of {first}",
            found[length],
            found[first],
            COST if name in LINEAR and length == last else None,
            at_most=True,
        )
        for length in longer
    ]


def draw(seconds: dict[str, dict[int, list[float]]], path: Path) -> None:
    """The curves: microseconds per frame against the length, both on logarithmic scales, with the spread."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    marks = itertools.cycle("os^Dv<>p*hX")
    for (name, found), mark in zip(seconds.items(), marks, strict=False):
        lengths = sorted(found)
        middle, low, high = ([1e6 * of(found[length]) for length in lengths] for of in (statistics.median, min, max))
        style = "--" if name in ("VideoMAE", "ViViT", "transformer") else "-"
        (line,) = axes.plot(lengths, middle, style, marker=mark, label=name)
        axes.fill_between(lengths, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(LENGTHS, [f"{length:,}" for length in LENGTHS])
    axes.set_xlabel("frames in a sequence")
    axes.set_ylabel("microseconds per frame, forward and backward")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Measure, print, write JSON; 1 if a bar is missed."""
    arguments = parser(__doc__, "long_sequences")
    arguments.add_argument("--draw", type=Path, help="also draw the curves into this file, with matplotlib")
    arguments.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="frames of the sequences")
    arguments.add_argument("--threads", type=int, default=1, help="of torch; several disturb each other")
    arguments.add_argument("--heads", nargs="+", help="some of the heads; all by default")
    options = arguments.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    lengths = sorted(options.lengths)
    short = [length for length in lengths if length <= FULL]
    chosen = {name: head for name, head in heads().items() if options.heads is None or name in options.heads}
    ratios: list[Ratio] = []
    seconds: dict[str, dict[int, list[float]]] = {}
    streams: dict[str, dict[str, Any]] = {}
    for name, head in chosen.items():
        seconds[name] = curve(name, partial(of_head, head), lengths if head.bounded else short, options.repeats)
        ratios.extend(costs(name, seconds[name]))
    for kind in ("VideoMAE", "ViViT"):
        fits = short[: 2 if len(short) > 1 else 1]
        seconds[kind] = curve(kind, partial(of_video, kind), fits, options.repeats)
        ratios.extend(costs(kind, seconds[kind]))
    for name, head in chosen.items():
        both = in_turn(
            {
                "ours": seconds_per_frame(partial(of_head, head), lengths[0]),
                "gru": seconds_per_frame(of_gru, lengths[0]),
            },
            options.repeats,
        )
        bar = GRU if name in LINEAR else None
        ratios.append(
            Ratio.of(f"{name}: frames a second at {lengths[0]}, of torch.nn.GRU", both["gru"], both["ours"], bar)
        )
    for name, head in chosen.items():
        found, streams[name] = streamed(name, head, lengths[-1] if head.bounded else short[-1], options.repeats)
        ratios.extend(found)
    if options.draw is not None:
        draw(seconds, options.draw)
    return report(options.out, ratios, places=PLACES, dim=DIM, seconds_per_frame=seconds, streamed=streams)


if __name__ == "__main__":
    sys.exit(main())

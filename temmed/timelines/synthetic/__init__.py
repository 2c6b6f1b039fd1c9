"""The built-in benchmark: sequences with exact truth, generated from a seed."""

from __future__ import annotations

from temmed.timelines.synthetic.generate import generate

__all__ = ["generate"]

"""Findings with exact truth, put into the real images of a timeline folder."""

from __future__ import annotations

from temmed.timelines.implant.build import implant

__all__ = ["implant"]

"""Readers of image formats: one file per format, found by :mod:`temmed.timelines.pixels`."""

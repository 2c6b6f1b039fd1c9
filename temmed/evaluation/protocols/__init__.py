"""Scoring protocols of published benchmarks, by name."""

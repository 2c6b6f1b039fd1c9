"""Metric definitions as plain functions of NumPy arrays. What is kept per question is averaged elsewhere."""

"""Metrics: a functional core on NumPy arrays, and torchmetrics classes without logic."""

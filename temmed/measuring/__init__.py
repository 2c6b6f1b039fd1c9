"""Segment and measure: answers without learning. Torch-free."""

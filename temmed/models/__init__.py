"""Backbones, text encoders, temporal heads and the `Reasoner` that joins them."""

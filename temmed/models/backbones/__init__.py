"""Swappable backbones parts, one file each."""

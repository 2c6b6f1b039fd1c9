"""Swappable temporal parts, one file each."""

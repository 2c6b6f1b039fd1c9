"""Swappable text parts, one file each."""

"""Findings with exact truth, put into the real images of a timeline folder."""

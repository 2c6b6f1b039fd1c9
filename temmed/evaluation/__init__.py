"""Scores, their uncertainty, and the comparison of models. Reads timelines and predictions; needs no torch."""

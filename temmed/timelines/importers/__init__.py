"""Importers: one file per kind of source; :mod:`temmed.timelines.importers.registry` finds them."""

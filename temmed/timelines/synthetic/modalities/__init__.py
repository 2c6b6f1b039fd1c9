"""The modalities of the built-in sets: a module here is one, found by its name. It holds ``MODALITY``."""

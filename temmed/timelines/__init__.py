"""The dataset on disk: open, write, validate, split, audit and view a timeline folder."""

"""TemMed: train and judge models that read a patient's images over time."""

__version__ = "0.1.0.dev0"

"""Random numbers that depend on a place in the training, not on what was drawn before."""

from __future__ import annotations

import random

import numpy as np
import torch


def reseed(device: torch.device, *place: int) -> None:
    """Seed numpy, random, and torch on the CPU and on one device.

    ``torch.manual_seed`` would seed every kind of device, and takes a hundred times as long where there is none.

    Args:
        device: where the model is.
        place: numbers of at least 0; each series of them gives other random numbers.
    """
    for_torch, for_numpy, for_random = (int(word) for word in np.random.SeedSequence(place).generate_state(3))
    torch.default_generator.manual_seed(for_torch)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(for_torch)
    np.random.seed(for_numpy)
    random.seed(for_random)

"""How a question reads images and memory."""

from __future__ import annotations

import torch

from temmed.data.batch import NAMED
from temmed.models.encodings import MOMENT_SIZE, encode_position
from temmed.models.readers.base import Asked, Shown
from temmed.models.readers.place_and_moment import PlaceAndMoment
from temmed.models.temporal.base import FOREVER, TemporalMemory

from .conftest import DIM

B, Q, K, T = 2, 3, 3, 5


def _memory(values: torch.Tensor) -> TemporalMemory:
    slots = torch.arange(T)[:, None].expand(B, T, 1)
    return TemporalMemory(values, slots * 90.0, slots.float(), slots, torch.full_like(slots, FOREVER))


def _shown(images: torch.Tensor) -> Shown:
    return Shown(images, _memory(images), torch.arange(T).expand(B, T))


def test_reading_is_linear_in_the_weights_of_places(reader: PlaceAndMoment) -> None:
    torch.manual_seed(0)
    images, one, other = torch.randn(B, T, K, DIM), *torch.randn(2, B, Q, reader.heads, K)
    together = reader.read_images(2 * one - other, images)
    apart = 2 * reader.read_images(one, images) - reader.read_images(other, images)
    torch.testing.assert_close(together, apart)


def test_the_asked_image_and_a_memory_of_it_alone_read_the_same(reader: PlaceAndMoment) -> None:
    torch.manual_seed(0)
    tokens, prompts = torch.randn(B, T, K, DIM), torch.randn(B, Q, DIM)
    places = reader.places(prompts)
    asked = torch.zeros(B, Q, dtype=torch.long)
    questions = Asked(prompts, asked, called=asked)
    read, _ = reader.read_memory(questions, places, _memory(tokens))
    torch.testing.assert_close(read, reader.read_image(places, _shown(reader.norm(tokens)).images_of(questions)))


def test_reading_one_position_is_reading_them_all_and_taking_that_one(reader: PlaceAndMoment) -> None:
    torch.manual_seed(0)
    images, places = torch.randn(B, T, K, DIM), torch.randn(B, Q, reader.heads, K)
    asked = torch.tensor([[0, 4, 2], [3, 3, 1]])
    every = reader.read_images(places, images)
    expected = torch.stack([every[b, torch.arange(Q), asked[b]] for b in range(B)])
    questions = Asked(torch.randn(B, Q, DIM), asked, called=asked)
    torch.testing.assert_close(reader.read_image(places, _shown(images).images_of(questions)), expected)


def test_a_named_moment_is_found_through_its_gate(reader: PlaceAndMoment) -> None:
    torch.manual_seed(0)
    prompts, asked = torch.zeros(B, Q, DIM), torch.full((B, Q), T - 1)
    named = torch.zeros(B, Q, NAMED, MOMENT_SIZE)
    named[:, :, 0, -encode_position(torch.tensor(2)).shape[-1] :] = encode_position(torch.tensor(2))
    memory = _memory(torch.zeros(B, T, K, DIM))
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.zero_()
        reader.moments.named_gate.bias.fill_(1.0)
        images = reader.norm(memory.values)
        attention = reader.attend(Asked(prompts, asked, called=asked, named=named), memory, images)
        unnamed = reader.attend(Asked(prompts, asked, called=asked), memory, images)
    assert (attention.argmax(dim=3) == 2).all()
    torch.testing.assert_close(unnamed, torch.full_like(unnamed, 1 / T))

"""A bank of fixed size with gated writing, merging of similar neighbours, and fusion with the current image.

The compression is that of MA-LMM (He et al. 2024): when the bank is full, the two neighbours in time that are most
alike are averaged, place by place. What differs: slots carry the time and position they stand for (averaged with
them), so a question can address them; what is written passes a gate; and the current tokens are first fused with what
the bank holds of the same place, so that a slot can say what is new.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models import start
from temmed.models.encodings import TIME_SIZE, encode_time
from temmed.models.temporal.base import (
    FOREVER,
    State,
    TemporalHead,
    TemporalMemory,
    chunk_positions,
    next_position,
)


class MemoryFusion(TemporalHead):
    """Memory-augmented fusion with a bank of ``capacity`` moments per place of the image grid.

    Args:
        dim: size of the tokens.
        capacity: moments kept; longer sequences are compressed.
    """

    bounded = True
    addressable = True

    def __init__(self, dim: int, capacity: int = 8) -> None:
        super().__init__()
        if capacity < 1:
            raise ValueError(f"Expected capacity >= 1, got {capacity}")
        self.capacity = capacity
        self.time = nn.Linear(TIME_SIZE, dim, bias=False)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.fuse_gate = nn.Linear(2 * dim, dim)
        self.fuse = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.write_gate = nn.Linear(2 * dim, dim)
        self.empty = nn.Parameter(torch.zeros(dim))
        # At the start what is seen is stored as it is: open gates, and nothing fused into it.
        nn.init.constant_(self.write_gate.bias, 2.0)
        nn.init.normal_(self.time.weight, std=0.01)
        start.at_zero(self.fuse[-1])

    def _read(self, current: Tensor, bank: Tensor, filled: Tensor) -> Tensor:
        """Content-based read of the same place: current ``(B, K, D)``, bank ``(B, K, M, D)``, filled ``(B, 1, M)``.

        A learned empty slot can be read, too.
        """
        # The query goes through the transposed key layer, which is less work than all of the bank through the layer.
        query = self.query(current) @ self.key.weight * bank.shape[-1] ** -0.5
        scores = torch.einsum("bkd,bkmd->bkm", query, bank).masked_fill(~filled, -torch.inf)
        weight = torch.cat([query @ self.empty.unsqueeze(1), scores], dim=-1).softmax(dim=-1)
        return weight[..., :1] * self.empty + torch.einsum("bkm,bkmd->bkd", weight[..., 1:], bank)

    def forward(
        self, tokens: Tensor, times: Tensor, mask: Tensor, image_mask: Tensor, state: State | None = None
    ) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.forward`."""
        batch, _, places, dim = tokens.shape
        positions = chunk_positions(tokens, state)
        if state is None:
            room = (batch, places, self.capacity + 1)
            state = {
                "bank": tokens.new_zeros(*room, dim),
                "moment": tokens.new_zeros(*room, 2, dtype=torch.float32),
                "count": tokens.new_zeros(room),
                "born": torch.full(room, FOREVER, device=tokens.device),
                "filled": torch.zeros(batch, dtype=torch.long, device=tokens.device),
            }
        encoded = self.time(encode_time(times))
        gone: list[TemporalMemory] = []
        for t, position in enumerate(positions.tolist()):
            state, lost = self._advance(
                state, tokens[:, t] + encoded[:, t].unsqueeze(1), times[:, t], position, image_mask[:, t]
            )
            gone += lost
        used = int(state["filled"].max())
        bank, moment, born = (state[name][:, :, :used] for name in ("bank", "moment", "born"))
        live = _slots(bank, moment, born, torch.full_like(born, FOREVER))
        return TemporalMemory.join([*gone, live]), {**state, "next_position": next_position(positions)}

    def _advance(
        self, state: State, current: Tensor, time: Tensor, position: int, there: Tensor
    ) -> tuple[State, list[TemporalMemory]]:
        bank, moment, count, born, filled = (state[k] for k in ("bank", "moment", "count", "born", "filled"))
        slots = torch.arange(self.capacity + 1, device=bank.device)
        used = int(filled.max())
        read = self._read(current, bank[:, :, :used], (slots[:used] < filled.unsqueeze(1)).unsqueeze(1))
        both = torch.cat([current, read], dim=-1)
        fused = current + torch.sigmoid(self.fuse_gate(both)) * self.fuse(both)
        written = torch.sigmoid(self.write_gate(torch.cat([fused, read], dim=-1))) * fused
        here = (slots == filled.unsqueeze(1)) & there.unsqueeze(1)
        here = here.unsqueeze(1).expand(born.shape)
        now = torch.stack([time, torch.full_like(time, position)], dim=-1)
        bank = torch.where(here.unsqueeze(-1), written.unsqueeze(2), bank)
        moment = torch.where(here.unsqueeze(-1), now[:, None, None], moment)
        count = torch.where(here, 1.0, count)
        born = torch.where(here, position, born)
        filled = filled + there
        full = filled > self.capacity
        state = {"bank": bank, "moment": moment, "count": count, "born": born, "filled": filled}
        if not bool(full.any()):
            return state, []
        return self._merge(state, position, full)

    def _merge(self, state: State, position: int, full: Tensor) -> tuple[State, list[TemporalMemory]]:
        """Average the two most similar neighbours of each place in the rows that overflow."""
        bank, moment, count, born = (state[k] for k in ("bank", "moment", "count", "born"))
        alike = functional.cosine_similarity(bank[:, :, 1:], bank[:, :, :-1], dim=-1)
        first = alike.argmax(dim=-1, keepdim=True)
        slots = torch.arange(self.capacity + 1, device=bank.device).expand(born.shape)
        pair = torch.cat([first, first + 1], dim=-1)
        row = full[:, None, None]

        def at(x: Tensor, index: Tensor) -> Tensor:
            return x.gather(2, index.reshape(*index.shape, *(1,) * (x.ndim - 3)).expand(*index.shape, *x.shape[3:]))

        dead_from = torch.where(row, at(born, pair), FOREVER)
        lost = _slots(at(bank, pair), at(moment, pair), dead_from, torch.full_like(dead_from, position))
        weight = at(count, pair)
        share = (weight / weight.sum(dim=2, keepdim=True).clamp(min=1)).unsqueeze(-1)
        merged_value = (at(bank, pair) * share).sum(dim=2, keepdim=True)
        merged_moment = (at(moment, pair) * share).sum(dim=2, keepdim=True)
        source = (slots + (slots > first)).clamp(max=self.capacity)
        is_merged = slots == first
        last = slots == self.capacity
        new_bank = torch.where(is_merged.unsqueeze(-1), merged_value, at(bank, source)).masked_fill(
            last.unsqueeze(-1), 0.0
        )
        new_moment = torch.where(is_merged.unsqueeze(-1), merged_moment, at(moment, source))
        new_count = torch.where(is_merged, weight.sum(dim=2, keepdim=True), at(count, source)).masked_fill(last, 0.0)
        new_born = torch.where(is_merged, position, at(born, source)).masked_fill(last, FOREVER)
        return {
            "bank": torch.where(row.unsqueeze(-1), new_bank, bank),
            "moment": torch.where(row.unsqueeze(-1), new_moment, moment),
            "count": torch.where(row, new_count, count),
            "born": torch.where(row, new_born, born),
            "filled": state["filled"] - full.long(),
        }, [lost]


def _slots(values: Tensor, moment: Tensor, valid_from: Tensor, valid_to: Tensor) -> TemporalMemory:
    return TemporalMemory(values, moment[..., 0], moment[..., 1], valid_from, valid_to)

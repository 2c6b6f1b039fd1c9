"""Locates a finding in an image by a box."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_convert, box_iou, generalized_box_iou_loss

from temmed.data.batch import TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.heads.base import Encoded, Rows, Sizes, TaskHead

#: Attention heads over the places of an image.
_HEADS = 4
#: Boxes that share this much with the true one are right, as in PASCAL VOC (Everingham et al. 2010).
_RIGHT = 0.5


class BoxHead(TaskHead):
    """Attends to the places of the asked image with what the finding's name found in it and in the memory.

    The box and its two losses are those of DETR (Carion et al. 2020): centre and size in shares of the image, L1 and
    generalised IoU (Rezatofighi et al. 2019). What differs: the finding is named, so that there is one box for each
    name and nothing to match.

    Args:
        sizes: what it is built for.
        weight: of its loss.
        l1: weight of the L1 loss, summed over the four numbers.
        giou: weight of one minus the generalised IoU.
        early_weight: see `TaskHead`.
    """

    texts = ("box_prompts",)
    items = "box"
    outputs = ("out.4",)

    def __init__(
        self, sizes: Sizes, weight: float, l1: float = 5.0, giou: float = 2.0, early_weight: float | None = None
    ) -> None:
        super().__init__(sizes, weight, early_weight)
        self.l1, self.giou = l1, giou
        dim = sizes.dim
        self.query = nn.Linear(dim, _HEADS * dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.out = nn.Sequential(
            nn.Linear((_HEADS + 1) * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, 4)
        )

    def forward(self, encoded: Encoded) -> Tensor:
        """``(B, G, 4)``: centre along columns and rows, width and height, in shares of the image."""
        batch = encoded.batch
        features = encoded.ask(encoded.texts["box_prompts"], batch.box_at)
        there = batch.box_at[..., None, None].expand(-1, -1, *encoded.images.shape[2:])
        image = encoded.images.gather(1, there)
        query = self.query(features).unflatten(-1, (_HEADS, -1))
        scores = torch.einsum("bghd,bgkd->bghk", query, self.key(image)) * query.shape[-1] ** -0.5
        seen = torch.einsum("bghk,bgkd->bghd", scores.softmax(dim=-1), image).flatten(2)
        return self.out(torch.cat([features, seen], dim=-1)).sigmoid()

    def loss(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """L1 and one minus the generalised IoU, each by its weight."""
        valid = valid_items(batch, self.items)
        found, truth = said[valid].float(), batch.boxes[valid]
        corners = (box_convert(boxes, "cxcywh", "xyxy") for boxes in (found, truth))
        return self.l1 * functional.l1_loss(found, truth, reduction="sum") + self.giou * generalized_box_iou_loss(
            *corners, reduction="sum"
        )

    def hits(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """How many boxes have an IoU of at least one half with the true one."""
        valid = valid_items(batch, self.items)
        found, truth = (box_convert(boxes[valid].float(), "cxcywh", "xyxy") for boxes in (said, batch.boxes))
        return (box_iou(found, truth).diagonal() >= _RIGHT).sum()

    def rows(self, said: Tensor, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``boxes``: corners in pixels of the image file."""
        corners = box_convert(said.float(), "cxcywh", "xyxy").clamp(0, 1) * batch.box_sizes.repeat(1, 1, 2)
        pixels, named = corners.tolist(), batch.positions.gather(1, batch.box_at).tolist()
        return {
            "boxes": [
                {
                    "finding_id": finding,
                    "position": named[b][g],
                    "channel": channel,
                    **dict(zip(("x1", "y1", "x2", "y2"), pixels[b][g], strict=True)),
                }
                for b, names in enumerate(batch.box_names)
                for g, (finding, channel) in enumerate(names)
            ]
        }

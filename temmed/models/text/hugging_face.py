"""Any Hugging Face text encoder, with the tokenizer it comes with.

Texts are pooled as sentence encoders do (Reimers & Gurevych 2019). What differs: a learned projection to the width of
the model follows; and the words of a frozen encoder are encoded once and then remembered. Numbers and moments are
spelled by such a tokenizer, so that their values reach the model through the reader alone (`TimelineBatch.named`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from temmed.data.pretrained_tokenizer import SHIFTED, PretrainedTokenizer
from temmed.errors import InputError
from temmed.models.adaptation import adapt, settle
from temmed.models.text.distinct import distinct
from temmed.models.weights import fetching_transformers

_NAME = "model.text.name"
Pooling = Literal["mean", "first", "last"]
#: Texts encoded at once by a frozen encoder, and how many it remembers before it starts anew.
_AT_ONCE, _MOST_KNOWN = 256, 1 << 16


class HuggingFaceText(nn.Module):
    """Encodes each distinct text of a batch once and pools it to one vector.

    Args:
        vocabulary: number of ids of the tokenizer, padding included.
        dim: size of the output.
        name: of a model on the hub, or its folder.
        pooling: ``mean`` of the tokens; the ``first``, as of BERT; or the ``last``, as of CLIP.
        train: what learns: ``full``, ``none``, ``last-N`` (blocks) or ``lora``; see `adapt`.
        max_length: longest text in tokens; a longer one is cut.
        pretrained: load the weights of ``name``.
        architecture: what its ``config.json`` says; read from ``name`` by default, and kept with the checkpoint.
        lora: arguments of ``peft.LoraConfig``.

    Raises:
        InputError: the model is not to be had, does not fit the tokenizer, or cannot be trained in this way.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        name: str,
        pooling: Pooling = "mean",
        train: str = "none",
        max_length: int = 128,
        pretrained: bool = True,
        architecture: Mapping[str, Any] | None = None,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.pooling, self.frozen = dim, pooling, train == "none"
        self.model = _text_part(_open(name, pretrained, architecture))
        held = self.model.get_input_embeddings().num_embeddings
        if vocabulary - SHIFTED > held:
            raise InputError(
                f"a tokenizer of at most {held} ids for {name}",
                str(vocabulary - SHIFTED),
                "model.text",
                "Train anew: the data were read with the tokenizer of another text encoder.",
            )
        self.project = nn.Sequential(
            nn.LayerNorm(self.model.config.hidden_size),
            nn.Linear(self.model.config.hidden_size, dim),
            nn.GELU(),
            nn.Linear(dim, dim),
            nn.LayerNorm(dim),
        )
        adapt(self.model, train, lora, "model.text")
        settle(self.model)
        self._known: dict[bytes, Tensor] = {}
        if self.frozen:
            self.register_load_state_dict_post_hook(lambda module, keys: module._known.clear())

    @staticmethod
    def bring(options: Mapping[str, Any]) -> tuple[dict[str, Any], PretrainedTokenizer]:
        """What comes with the model of these options: the options with its architecture, and its tokenizer.

        Raises:
            InputError: the model is not to be had.
        """
        name = options["name"]
        with fetching_transformers(name, _NAME):
            architecture = json.loads(AutoConfig.from_pretrained(name).to_json_string(use_diff=False))
            tokenizer = AutoTokenizer.from_pretrained(name)
        if not tokenizer.is_fast:
            kind = type(tokenizer).__name__
            raise InputError("a tokenizer of the tokenizers library", kind, name, "Choose another model.text.name.")
        longest = min(int(options["max_length"]), tokenizer.model_max_length)
        return {**options, "architecture": architecture}, PretrainedTokenizer.of(name, tokenizer, longest)

    def train(self, mode: bool = True) -> HuggingFaceText:
        """What does not learn stays in evaluation mode."""
        super().train(mode)
        settle(self.model)
        return self

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """What is known is forgotten when the weights move."""
        self._known.clear()
        return super()._apply(*args, **kwargs)

    def forward(self, ids: Tensor) -> Tensor:
        """Encode texts.

        Args:
            ids: ``(..., L)`` long, 0 = padding.

        Returns:
            ``(..., dim)``; a text of padding alone gives zeros.
        """
        shape = ids.shape[:-1]
        flat = ids.reshape(-1, ids.shape[-1])
        if not flat.numel():
            return ids.new_zeros((*shape, self.dim), dtype=torch.float32)
        first, inverse = distinct(flat)
        texts = flat[first]
        encoded = self.project(self._recall(texts) if self.frozen else self.pool(texts))
        encoded = encoded.masked_fill((texts == 0).all(dim=1, keepdim=True), 0.0)
        return encoded[inverse].reshape(*shape, -1)

    def pool(self, ids: Tensor) -> Tensor:
        """Pooled tokens of the encoder: ``(N, L) → (N, hidden)``."""
        mask = ids != 0
        length = mask.sum(dim=1).clamp(min=1)
        mask = torch.arange(ids.shape[1], device=ids.device) < length.unsqueeze(1)  # a text of padding has one token
        hidden = self.model(input_ids=(ids - SHIFTED).clamp(min=0), attention_mask=mask.long()).last_hidden_state
        if self.pooling == "mean":
            return (hidden * mask.unsqueeze(-1)).sum(dim=1) / length.unsqueeze(-1)
        if self.pooling == "first":
            return hidden[:, 0]
        return hidden[torch.arange(len(ids), device=ids.device), length - 1]

    @torch.no_grad()
    def _recall(self, ids: Tensor) -> Tensor:
        """`pool` of each text when it is seen for the first time; in full precision, whoever asks."""
        rows = ids.cpu().numpy()
        keys = [row[row != 0].tobytes() for row in rows]
        if len(self._known) + len(keys) > _MOST_KNOWN:
            self._known.clear()
        new = [n for n, key in enumerate(keys) if key not in self._known]
        with torch.autocast(ids.device.type, enabled=False):
            for start in range(0, len(new), _AT_ONCE):
                part = new[start : start + _AT_ONCE]
                self._known.update(zip([keys[n] for n in part], self.pool(ids[part]), strict=True))
        return torch.stack([self._known[key] for key in keys])


def _open(name: str, pretrained: bool, architecture: Mapping[str, Any] | None) -> nn.Module:
    with fetching_transformers(name, _NAME):
        if pretrained:
            return AutoModel.from_pretrained(name, dtype=torch.float32)
        if architecture is None:
            return AutoModel.from_config(AutoConfig.from_pretrained(name))
        return AutoModel.from_config(AutoConfig.for_model(**architecture))


def _text_part(model: Any) -> Any:
    """The encoder of texts: of an encoder-decoder, and of a model of texts and images; without a pooling of its own."""
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model = getattr(model, "text_model", model)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model

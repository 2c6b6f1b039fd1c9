"""Tiny text encoders with random weights, in the form of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "did", "the", "cyst", "grow", "shrink", "since", "left", "nodule"]


def _tiny(kind: str) -> Any:
    """A model of the kind with random weights."""
    size: dict[str, Any] = {"vocab_size": len(WORDS), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    width: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    if kind == "bert":
        return transformers.BertModel(transformers.BertConfig(**size, **width))
    if kind == "clip":
        text = transformers.CLIPTextConfig(**size, **width)
        vision = transformers.CLIPVisionConfig(**width, image_size=16, patch_size=8)
        return transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
        )
    shape: dict[str, Any] = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 1,
    }
    return transformers.T5Model(transformers.T5Config(**size, **shape))


def save(folder: Path, kind: str) -> str:
    """A model and a tokenizer in which, unlike here, 0 is not padding."""
    _tiny(kind).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    words.enable_padding(length=30, pad_id=1, pad_token="[PAD]")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=20
    ).save_pretrained(folder)
    return str(folder)

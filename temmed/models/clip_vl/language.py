"""A causal language model of Hugging Face, with the tokenizer it comes with, that is prompted by vectors.

Loading and writing are transformers' own (Wolf et al. 2020), low-rank additions are peft's (Hu et al. 2021), and so
are 4 and 8 bits (Dettmers et al. 2023, QLoRA, through bitsandbytes).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

from temmed.data.batch import IGNORE
from temmed.data.pretrained_tokenizer import SHIFTED, PretrainedTokenizer
from temmed.errors import InputError
from temmed.models.adaptation import adapt, settle

_WHERE = "model.text"
_BEGIN, _END = "<begin>", "<end>"


class LanguageModel(nn.Module):
    """A language model that goes on from a prompt of vectors.

    Args:
        vocabulary: number of ids of the tokenizer, padding included.
        name: of a model on the hub, or its folder; ``None`` makes one of ``architecture``, which reads bytes.
        file: of a folder or repository in the GGUF format, the file.
        train: what learns: ``full``, ``none``, ``last-N`` (blocks) or ``lora``; see `adapt`.
        lora: arguments of ``peft.LoraConfig``.
        bits: 4 or 8 keep the weights in so many, through bitsandbytes; ``None`` keeps them in ``dtype``.
        dtype: of the weights, a name of torch.
        max_length: longest text in tokens; a longer one is cut.
        checkpointing: compute activations again in the backward pass, to save memory.
        pretrained: load the weights of ``name``.
        architecture: what its ``config.json`` says; read from ``name`` by default, and kept with the checkpoint.
        begin: id before a prompt, ``None`` for none; `bring` finds it, as the next.
        end: id after an answer.

    Raises:
        InputError: the model is not to be had, does not fit the tokenizer, or cannot be trained in this way.
    """

    #: It is part of a model that writes its answers, and of no other.
    writes = True

    def __init__(
        self,
        vocabulary: int,
        name: str | None,
        file: str | None = None,
        train: str = "lora",
        lora: Mapping[str, Any] | None = None,
        bits: int | None = None,
        dtype: str = "float32",
        max_length: int = 256,
        checkpointing: bool = False,
        pretrained: bool = True,
        architecture: Mapping[str, Any] | None = None,
        begin: int | None = None,
        end: int = 0,
    ) -> None:
        super().__init__()
        self.begin, self.end = begin, end
        if bits is not None and train not in ("none", "lora"):
            raise InputError(
                "train=lora or none with weights of 4 or 8 bits", train, f"{_WHERE}.train", "Set one of them."
            )
        self.model = _open(name, file, bits, getattr(torch, dtype), pretrained, architecture)
        held = self.model.get_input_embeddings().num_embeddings
        if vocabulary - SHIFTED > held:
            raise InputError(
                f"a tokenizer of at most {held} ids for {name}",
                str(vocabulary - SHIFTED),
                _WHERE,
                "Train anew: the data were read with another tokenizer.",
            )
        if checkpointing:
            enable = getattr(self.model, "activation_checkpointing_enable", self.model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        adapt(self.model, train, lora, _WHERE)
        settle(self.model)
        self.width = int(self.model.get_input_embeddings().embedding_dim)
        self.room = int(getattr(self.model.config, "max_position_embeddings", 1 << 30))

    @staticmethod
    def bring(options: Mapping[str, Any]) -> tuple[dict[str, Any], PretrainedTokenizer]:
        """What comes with the model of these options: the options with its architecture, and its tokenizer.

        Raises:
            InputError: the model is not to be had.
        """
        name, longest = options["name"], int(options["max_length"])
        if name is None:
            return _bytes(options, longest)
        with _refusals(name):
            where = {"gguf_file": options["file"]} if options["file"] else {}
            config = AutoConfig.from_pretrained(name, **where)
            tokenizer = AutoTokenizer.from_pretrained(name, **where)
        if not tokenizer.is_fast or tokenizer.eos_token_id is None:
            found = f"{type(tokenizer).__name__} with {tokenizer.special_tokens_map}"
            raise InputError(
                "a fast tokenizer with a token for the end of a text", found, name, "Choose another model.text.name."
            )
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content["post_processor"] = None  # texts are pieces of a prompt: what begins and ends it is added once
        return {
            **options,
            "architecture": json.loads(config.to_json_string(use_diff=False)),
            "begin": tokenizer.bos_token_id,
            "end": tokenizer.eos_token_id,
        }, PretrainedTokenizer(name, json.dumps(content), tokenizer.unk_token, longest)

    def train(self, mode: bool = True) -> LanguageModel:
        """What does not learn stays in evaluation mode."""
        super().train(mode)
        settle(self.model)
        return self

    def embed(self, ids: Tensor) -> Tensor:
        """Vectors of tokens: ``(..., L)`` ids of the language model → ``(..., L, width)``."""
        return self.model.get_input_embeddings()(ids)

    def told(self, prompt: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        """Log-probability of one answer to each prompt, given it; ``(N,)`` in float32.

        Args:
            prompt: ``(N, S, width)``, padded in front.
            mask: ``(N, S)`` bool.
            ids: ``(N, L)``, `IGNORE` = padding, which comes last.
        """
        there = torch.cat([mask, ids != IGNORE], dim=1)
        states = torch.cat([prompt, self.embed(ids.clamp(min=0))], dim=1)
        logits = self._read(there, inputs_embeds=states, use_cache=False, logits_to_keep=ids.shape[1] + 1).logits
        return _chosen(logits[:, :-1], ids)

    def told_each(self, prompt: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        """Log-probabilities of several answers to each prompt, which is read once; ``(N, K)`` in float32.

        Args:
            prompt: ``(N, S, width)``, padded in front.
            mask: ``(N, S)`` bool.
            ids: ``(N, K, L)``, L ≥ 2, `IGNORE` = padding, which comes last.
        """
        each = ids.shape[1]
        first = self._read(mask, inputs_embeds=prompt, use_cache=True, logits_to_keep=1)
        first.past_key_values.batch_repeat_interleave(each)
        flat = ids.flatten(0, 1)
        there = torch.cat([mask.repeat_interleave(each, dim=0), flat[:, :-1] != IGNORE], dim=1)
        after = self._read(there, input_ids=flat[:, :-1].clamp(min=0), past_key_values=first.past_key_values)
        logits = torch.cat([first.logits.repeat_interleave(each, dim=0), after.logits], dim=1)
        return _chosen(logits, flat).unflatten(0, (-1, each))

    def write(self, prompt: Tensor, mask: Tensor, longest: int) -> list[list[int]]:
        """The likeliest token after token, up to the end, which is left out, or ``longest`` of them."""
        settings = GenerationConfig(
            max_new_tokens=longest,
            do_sample=False,
            eos_token_id=self.end,
            pad_token_id=self.end,
            bos_token_id=self.begin,
        )
        ids = self.model.generate(inputs_embeds=prompt, attention_mask=mask.long(), generation_config=settings)
        return [row[: row.index(self.end)] if self.end in row else row for row in ids.tolist()]

    def _check_room(self, tokens: int) -> None:
        if tokens > self.room:
            raise InputError(
                f"at most {self.room} tokens of images and words, as the language model has room for",
                str(tokens),
                "model.backbone.grid",
                "Use fewer tokens for an image, a data.stride, or a language model with more room.",
            )

    def _read(self, there: Tensor, **inputs: Any) -> Any:
        """Run the model on the last tokens of ``(N, S)``; padding has no place."""
        new = next(inputs[name] for name in ("inputs_embeds", "input_ids") if name in inputs).shape[1]
        self._check_room(there.shape[1])
        place = (there.cumsum(dim=1) - 1).clamp(min=0)[:, -new:]
        return self.model(attention_mask=there.long(), position_ids=place, **inputs)


def _chosen(logits: Tensor, ids: Tensor) -> Tensor:
    """The sum of the log-probabilities of tokens: ``(N, L, V)`` and ``(N, L)`` → ``(N,)``."""
    losses = functional.cross_entropy(logits.float().transpose(1, 2), ids, ignore_index=IGNORE, reduction="none")
    return -losses.sum(dim=1)


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """What the libraries say when a model is not to be had, as one message."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            "a causal language model that is on this machine or can be fetched from the hub, or its folder",
            str(error).strip().splitlines()[0],
            f"{_WHERE}.name={name}",
            f"Fetch it where there is a network, with `hf download {name}` (`hf auth login` first if it asks for "
            "consent), or give the path of a folder; model/text=tiny_llama needs none.",
        ) from error


def _open(
    name: str | None,
    file: str | None,
    bits: int | None,
    dtype: torch.dtype,
    pretrained: bool,
    architecture: Mapping[str, Any] | None,
) -> Any:
    if name is None or (not pretrained and bits is None):
        assert architecture is not None, "LanguageModel.bring comes before"
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**architecture), dtype=dtype)
    options: dict[str, Any] = {"dtype": dtype, **({"gguf_file": file} if file else {})}
    if bits is not None:
        options["quantization_config"] = _quantization(bits, dtype)
    with _refusals(name):
        return AutoModelForCausalLM.from_pretrained(name, **options)


def _quantization(bits: int, dtype: torch.dtype) -> BitsAndBytesConfig:
    if bits not in (4, 8):
        raise InputError("4, 8 or null", str(bits), f"{_WHERE}.bits", "Set one of them.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "bitsandbytes, which keeps weights in 4 or 8 bits",
            "no such package",
            f"{_WHERE}.bits={bits}",
            "Install it: pip install bitsandbytes; or set model.text.bits=null.",
        )
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _bytes(options: Mapping[str, Any], longest: int) -> tuple[dict[str, Any], PretrainedTokenizer]:
    """For a model made on the spot: every byte is a token, so that nothing is to be fetched or fitted."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate([_BEGIN, _END, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    architecture = {**options["architecture"], "vocab_size": tokenizer.get_vocab_size()}
    brought = {**options, "architecture": architecture, "begin": 0, "end": 1}
    return brought, PretrainedTokenizer("bytes", tokenizer.to_str(), None, longest)

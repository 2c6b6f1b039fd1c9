"""The tokens that reports are written in: finitely many, from which every text can be written and read back.

The ids of `temmed.data.tokenizer` carry values, so there is no end to them, and a generating model chooses among
finitely many. Here byte pairs (Sennrich et al. 2016; over bytes, Radford et al. 2019) are merged as the reports of the
train subset have them, through Hugging Face's tokenizers. What differs: every digit is a token of its own, so that a
size or a time that no report has can be written, and none is remembered as a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from temmed.errors import InputError

_BEGIN, _END = "<begin>", "<end>"
#: Bytes and the two special tokens are always there.
LEAST_SIZE = 258


@dataclass(frozen=True)
class ReportVocabulary:
    """A fast tokenizer of Hugging Face, and what a written report begins and ends with.

    Attributes:
        definition: the tokenizer as JSON.
        begin: id before the first token.
        end: id after the last token.
        longest: most tokens of a report, its end included; what comes after them is cut off.

    Examples:
        >>> vocabulary = ReportVocabulary.fit(["The nodule, 12 mm."], size=258, longest=64)
        >>> vocabulary.decode(vocabulary.encode("The  nodule, 205 mm."))
        'The nodule, 205 mm.'
    """

    definition: str
    begin: int
    end: int
    longest: int

    @classmethod
    def fit(cls, texts: Iterable[str], size: int, longest: int) -> ReportVocabulary:
        """Merge bytes that often stand side by side; fit it on reports of the train subset alone.

        Args:
            texts: the reports.
            size: most tokens of the vocabulary, `LEAST_SIZE` or more.
            longest: see the attribute.
        """
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=[_BEGIN, _END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        begin, end = (tokenizer.get_vocab()[token] for token in (_BEGIN, _END))
        return cls(tokenizer.to_str(), begin, end, longest)

    @classmethod
    def load(cls, name: str, longest: int) -> ReportVocabulary:
        """The vocabulary of a pretrained language model.

        Args:
            name: of the model on the Hugging Face hub, or a folder.
            longest: see the attribute.

        Raises:
            InputError: there is none, or it does not say how a text ends.
        """
        from transformers import AutoTokenizer

        try:
            found = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise InputError(
                "a language model of the Hugging Face hub, or a folder of one, with its tokenizer",
                str(error).splitlines()[0],
                "model.heads.report.name",
                "Check the name; without a network it must be a folder, or in the cache.",
            ) from error
        ends = [token for token in (found.eos_token_id, found.sep_token_id) if token is not None]
        if not ends or not found.is_fast:
            raise InputError(
                "a fast tokenizer with a token for the end of a text",
                f"{type(found).__name__} with the special tokens {found.special_tokens_map}",
                "model.heads.report.name",
                "Choose another model, or add the token to its tokenizer.",
            )
        begins = [token for token in (found.bos_token_id, found.cls_token_id) if token is not None]
        return cls(found.backend_tokenizer.to_str(), (begins or ends)[0], ends[0], longest)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.definition)
        # A report that happens to hold "<end>" does not end there.
        tokenizer.encode_special_tokens = True
        return tokenizer

    def __len__(self) -> int:
        """Number of tokens."""
        return int(self._tokenizer.get_vocab_size())

    def normalise(self, text: str) -> str:
        """A text as it comes back from `decode`, if no character is unknown: one space for any white space."""
        normaliser = self._tokenizer.normalizer
        return text if normaliser is None else str(normaliser.normalize_str(text))

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without begin and end."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def target(self, text: str) -> list[int]:
        """What a model is to write: the ids of a text and the end, or as many of them as may be."""
        return [*self.encode(text), self.end][: self.longest]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first end; bytes that are no text become "�"."""
        kept = list(ids)
        if self.end in kept:
            kept = kept[: kept.index(self.end)]
        return str(self._tokenizer.decode(kept, skip_special_tokens=True))

"""What a language model reads before each answer: visits in the order of time, then the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from temmed.data.batch import IGNORE, TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.data.pretrained_tokenizer import SHIFTED, PretrainedTokenizer
from temmed.models.clip_vl.language import LanguageModel


class Wording:
    """The fixed words of a prompt, and answers as texts.

    Args:
        fitted: the tokenizer and the scale of values.
        end: id after an answer.
    """

    def __init__(self, fitted: Fitted, end: int) -> None:
        assert isinstance(fitted.tokenizer, PretrainedTokenizer), "the tokenizer comes with the language model"
        self._tokenizer, self._values, self._end = fitted.tokenizer, fitted.values, end
        names = ("Report: ", "\nQuestion: ", "\nChoices: ", "; ", "\nAnswer: ")
        self.report, self.question, self.choices, self.between, self.answer = map(self.ids, names)

    def ids(self, text: str) -> list[int]:
        """Ids of the language model."""
        return [number - SHIFTED for number in self._tokenizer.encode(text)]

    def number(self, scaled: float) -> list[int]:
        """The answer that gives a value of the fitted scale, to four digits in the unit of the data."""
        (value,) = self._values.inverse(torch.tensor([scaled]).double().numpy())
        return [*self.ids(f"{value:.4g}"), self._end]

    def text(self, row: Tensor) -> list[int]:
        """Ids of the language model of a text of the batch."""
        return (row[row != 0] - SHIFTED).tolist()

    def choice(self, row: Tensor) -> list[int]:
        """The answer that gives a choice."""
        return [*self.text(row), self._end]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids of the language model."""
        return self._tokenizer.decode([number + SHIFTED for number in ids]).strip()


@dataclass
class Conversation:
    """The visits of a batch as vectors, and its questions.

    Attributes:
        batch: the batch.
        streams: for each sequence ``(S, width)``: of each position its moment, then its image, then its reports.
        ends: ``ends[b][t]``: how much of the stream has been read up to and including a position.
        language: the language model.
        wording: the fixed words, and answers as texts.
        at_once: questions that are read at once when nothing is learned.
        learns: whether the true answers alone are looked at, all at once, as in training.
    """

    batch: TimelineBatch
    streams: list[Tensor]
    ends: list[list[int]]
    language: LanguageModel
    wording: Wording
    at_once: int
    learns: bool

    @cached_property
    def _texts(self) -> tuple[Tensor, Tensor, list[list[int]]]:
        """Prompts and choices, where Python may look at them, and positions asked at."""
        return self.batch.prompts.cpu(), self.batch.choices.cpu(), self.batch.asked_at.tolist()

    def _question(self, b: int, q: int) -> list[int]:
        prompts, choices, _ = self._texts
        words, offered = self.wording, [row for row in choices[b, q] if row.any()]
        ids = [*words.question, *words.text(prompts[b, q])]
        for n, row in enumerate(offered):
            ids += [*(words.between if n else words.choices), *words.text(row)]
        return [*ids, *words.answer]

    def prompts(self, rows: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Prompts of questions (sequence, number): ``(N, S, width)`` and its mask, padded in front."""
        asked_at, device = self._texts[2], self.batch.images.device
        begin = [] if self.language.begin is None else [self.language.begin]
        parts = []
        for b, q in rows:
            seen = self.streams[b][: self.ends[b][asked_at[b][q]]]
            ids = torch.tensor([*begin, *self._question(b, q)], device=device)
            told = self.language.embed(ids)
            parts.append(torch.cat([told[: len(begin)], seen, told[len(begin) :]]))
        mask = pad_sequence(
            [torch.ones(len(part), dtype=torch.bool, device=device) for part in parts], True, False, padding_side="left"
        )
        return pad_sequence(parts, True, padding_side="left"), mask

    @cached_property
    def _true(self) -> dict[str, Tensor]:
        """Log-probability of the true answer by task, ``(B, Q)``, 0 where there is none; all are read at once."""
        batch, words = self.batch, self.wording
        rows = [(task, b, q) for task in ("answer", "value") for b, q in valid_items(batch, task).nonzero().tolist()]
        answers, values, (_, choices, _) = batch.answers.tolist(), batch.values.tolist(), self._texts
        targets = [
            words.choice(choices[b, q, answers[b][q]]) if task == "answer" else words.number(values[b][q])
            for task, b, q in rows
        ]
        # Without any answer something is read even so, that no process waits for the gradient of another.
        said = self.language.told(
            *self.prompts([(b, q) for _, b, q in rows] or [(0, 0)]), self._padded(targets or [[0]])
        )
        found = {}
        for task in ("answer", "value"):
            mine = [n for n, row in enumerate(rows) if row[0] == task]
            index = torch.tensor([rows[n][1:] for n in mine], dtype=torch.long, device=said.device).reshape(-1, 2)
            nothing = 0 * said.sum() * said.new_ones(batch.question_mask.shape)
            found[task] = nothing.index_put(tuple(index.unbind(1)), said[mine])
        return found

    def values(self) -> Tensor:
        """Log-probability of the text of each true value, ``(B, Q)``, 0 where there is none."""
        if self.learns:
            return self._true["value"]
        rows = [(b, q) for b, q in valid_items(self.batch, "value").nonzero().tolist()]
        told = torch.zeros(self.batch.question_mask.shape, device=self.batch.images.device)
        values = self.batch.values.tolist()
        for part in self._parts(rows):
            targets = self._padded([self.wording.number(values[b][q]) for b, q in part])
            told[tuple(torch.tensor(part).T)] = self.language.told(*self.prompts(part), targets)
        return told

    def choices(self) -> Tensor:
        """Log-probability of the text of each choice ``(B, Q, K)``; −inf where there is none, or it was not looked at.

        When the model learns, the true choice alone is looked at.
        """
        batch, offered = self.batch, self.batch.choice_mask.any(dim=-1) & self.batch.question_mask
        told = torch.full(batch.choice_mask.shape, -torch.inf, device=batch.images.device)
        if self.learns:
            true = torch.nn.functional.one_hot(batch.answers.clamp(min=0), told.shape[-1]).bool()
            true &= valid_items(batch, "answer").unsqueeze(-1)
            return torch.where(true, self._true["answer"].unsqueeze(-1), told)
        for part in self._parts([(b, q) for b, q in offered.nonzero().tolist()]):
            index = tuple(torch.tensor(part).T)
            targets = [[self.wording.choice(row) for row in self._texts[1][b, q]] for b, q in part]
            padded = self._padded([row for each in targets for row in each]).unflatten(0, (len(part), -1))
            told[index] = self.language.told_each(*self.prompts(part), padded)
        return told.masked_fill(~batch.choice_mask, -torch.inf)

    def written(self, longest: int) -> list[list[str]]:
        """What the model writes to each question, by sequence."""
        rows = [(b, q) for b, row in enumerate(self.batch.question_ids) for q in range(len(row))]
        texts = iter(
            [
                self.wording.decode(ids)
                for part in self._parts(rows)
                for ids in self.language.write(*self.prompts(part), longest)
            ]
        )
        return [[next(texts) for _ in row] for row in self.batch.question_ids]

    def _parts(self, rows: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        return [rows[start : start + self.at_once] for start in range(0, len(rows), self.at_once)]

    def _padded(self, ids: list[list[int]]) -> Tensor:
        device = self.batch.images.device
        return pad_sequence([torch.tensor(row, device=device) for row in ids], batch_first=True, padding_value=IGNORE)

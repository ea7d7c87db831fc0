"""Facts hidden in text and asked for at its end: passkey retrieval and the needles of RULER (2404.06654).

A trial is one document of exactly the evaluated length: separator, text with statements hidden in it, a question, and
the answer, which alone is scored. The text is cut from the documents of the evaluated split, by tokens; statements,
question and answer are encoded on their own, so an answer is made of the very tokens that the statement shows.

    single        the code of one key
    multi_key     the code of one key, with other keys and codes about
    multi_value   all codes of one key, in the order in which they appear
    multi_query   the codes of several keys
    tracking      names that stand for a number, each defined by the one before
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from data.windows import Selection, Windows, choose
from longrun.base.errors import DataError
from longrun.evaluation.protocols.base import Protocol, text_of
from longrun.evaluation.token_scores import Row, Scored, summary

_NEEDLE = 4  # what the random stream is for; see tasks/questions.py
_WORDS = """
amber anchor arrow badge basin beacon birch blanket bridge bronze bucket button canoe canyon castle cedar chapel
cherry comet copper coral cotton crater crystal dagger desert dragon eagle ember falcon feather ferry flute forest
galaxy garden glacier granite hammer harbor helmet island ivory jacket jungle kettle lantern lemon lizard magnet
maple marble meadow mirror needle orchid oyster paddle pepper pigeon planet
"""
WORDS = _WORDS.split()


@dataclass(frozen=True)
class Trial:
    """statements: in the order in which they appear.  asked: which of them the depth is for, None: the first, and the
    others evenly behind it."""

    statements: list[str]
    question: str
    answer: list[str]
    asked: int | None = None


class Needle(Protocol):
    def __init__(self, options: Any):
        super().__init__(options)
        self.hide = VARIANTS[options.variant]
        self.wanted: list[list[str]] = []
        self.tokenizer: Any = None

    @property
    def keys(self) -> tuple[str, ...]:
        return ("variant", "trials", "depths", *(() if self.options.variant == "single" else ("needles",)))

    @property
    def label(self) -> str:
        return f"needle-{self.options.variant}"

    def select(self, data: Any, lengths: list[int]) -> dict[int, Selection | DataError]:
        stream, offsets = text_of(data, self.options)
        self.tokenizer = data.tokenizer
        documents = choose(offsets, max(lengths) + 1, None, reserve=1)
        trials = [self._trial(number) for number in range(self.options.trials)]
        self.wanted = [trial.answer for _ in self.options.depths for trial in trials]
        encoded = [self._encoded(trial) for trial in trials]
        longest = max(sum(map(len, pieces)) for pieces in encoded)  # and a separator, without the last token
        found: dict[int, Selection | DataError] = {}
        for length in lengths:
            if longest > length:
                found[length] = DataError(f"what is hidden and asked for takes {longest} tokens by itself")
                continue
            rows = [
                self._document(number, trials[number], encoded[number], depth, length, stream, offsets, documents)
                for depth in self.options.depths
                for number in range(len(trials))
            ]
            found[length] = self._selection(rows, [len(pieces[-1]) for pieces in encoded], length)
        if all(isinstance(each, DataError) for each in found.values()):
            raise DataError(f"lengths={lengths}: {found[lengths[0]]}.\nTry lengths=[{2 * longest},{4 * longest}]")
        return found

    def parts(self, scored: Scored, selection: Selection, length: int, train_length: int) -> dict[str, list[Row]]:
        """A cell for each depth."""
        depth = selection.labels["depth"]
        cells = [
            {"length": length, "depth": each, **summary(scored[depth[scored.document] == each])}
            for each in np.unique(depth).tolist()
        ]
        return {"cells": cells}

    def judge(self, written: list[np.ndarray], selection: Selection, length: int) -> Row:
        """`recall` is RULER's measure: the share of the wanted words found anywhere in what was written."""
        texts = [self.tokenizer.decode(ids) for ids in written]
        shares = [np.mean([word in text for word in words]) for words, text in zip(self.wanted, texts, strict=True)]
        return {**super().judge(written, selection, length), "recall": float(np.mean(shares))}

    def _trial(self, number: int) -> Trial:
        """The same at every length and depth."""
        rng = np.random.default_rng([_NEEDLE, number, 0])
        words = [WORDS[i] for i in rng.permutation(len(WORDS))]
        codes = [str(code) for code in 10000 + rng.choice(90000, len(WORDS), replace=False)]
        return self.hide(words[: self.options.needles], codes[: self.options.needles])

    def _encoded(self, trial: Trial) -> list[np.ndarray]:
        """Ids of every statement, of the question and of the answer."""
        answer = "".join(f" {word}" for word in trial.answer)
        return self.tokenizer.encode_batch([*trial.statements, trial.question, answer])

    def _document(self, number, trial, encoded, depth, length, stream, offsets, documents) -> np.ndarray:
        """Tokens (length + 1,): the last one is only ever a target."""
        *statements, question, answer = encoded
        rng = np.random.default_rng([_NEEDLE, number, 1])
        size = length - sum(map(len, encoded))
        chosen = documents[rng.integers(len(documents))]
        first = offsets[chosen] + 1  # behind its separator
        start = first + int(rng.random() * (offsets[chosen + 1] - first - size + 1))
        filler = stream[start : start + size]
        places = [round(share * size) for share in shares(trial, depth, rng)]
        parts = [[self.tokenizer.separator]]
        for begin, end, hidden in zip([0, *places], [*places, size], [*statements, question], strict=True):
            parts += [filler[begin:end], hidden]
        return np.concatenate([*parts, answer]).astype(np.int64)

    def _selection(self, rows: list[np.ndarray], answers: list[int], length: int) -> Selection:
        count = len(rows)
        offsets = np.arange(count + 1) * (length + 1)
        start, end = offsets[:-1], offsets[1:]
        size = np.tile(answers, len(self.options.depths))
        depths = np.repeat(np.array(self.options.depths, float), len(answers))
        windows = Windows(np.arange(count), start, end - 1, end - size, end)
        return Selection(np.concatenate(rows), offsets, windows, answers=True, labels={"depth": depths})


def shares(trial: Trial, depth: float, rng: np.random.Generator) -> list[float]:
    """Where each statement stands, as a share of the text; increasing."""
    count = len(trial.statements)
    if trial.asked is None:
        return [depth + (1 - depth) * i / count for i in range(count)]
    before, behind = trial.asked, count - 1 - trial.asked
    return [
        *sorted((rng.random(before) * depth).tolist()),
        depth,
        *sorted((depth + rng.random(behind) * (1 - depth)).tolist()),
    ]


def statement(word: str, code: str) -> str:
    return f"\nThe code of {word} is {code}.\n"


def single(words: list[str], codes: list[str]) -> Trial:
    return Trial([statement(words[0], codes[0])], f"\nThe code of {words[0]} is", codes[:1], 0)


def multi_key(words: list[str], codes: list[str]) -> Trial:
    asked = int(codes[0]) % len(words)
    statements = [statement(word, code) for word, code in zip(words, codes, strict=True)]
    return Trial(statements, f"\nThe code of {words[asked]} is", [codes[asked]], asked)


def multi_value(words: list[str], codes: list[str]) -> Trial:
    statements = [statement(words[0], code) for code in codes]
    return Trial(statements, f"\nThe {len(codes)} codes of {words[0]} are", codes)


def multi_query(words: list[str], codes: list[str]) -> Trial:
    statements = [statement(word, code) for word, code in zip(words, codes, strict=True)]
    order = sorted(range(len(words)), key=lambda i: codes[i][::-1])  # asked in another order than they appear
    asked = ", ".join(words[i] for i in order)
    return Trial(statements, f"\nThe codes of {asked} are", [codes[i] for i in order])


def tracking(words: list[str], codes: list[str]) -> Trial:
    before = [codes[0], *words]
    statements = [f"\n{word} stands for {known}.\n" for word, known in zip(words, before, strict=False)]
    return Trial(statements, f"\nThe {len(words)} names that stand for {codes[0]} are", words)


VARIANTS = {each.__name__: each for each in (single, multi_key, multi_value, multi_query, tracking)}

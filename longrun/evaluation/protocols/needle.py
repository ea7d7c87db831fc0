"""Facts hidden in text and asked for at its end: passkey retrieval and the needles of RULER (2404.06654).

A trial is one document of exactly the evaluated length: separator, text with statements hidden in it, a question, and
the answer. Only the answer is scored. The text is cut from the documents of the evaluated split, by tokens. Statements,
question and answer are encoded separately, so an answer consists of the same tokens as in its statement.

    single        the code of one key
    multi_key     the code of one key, with other keys and codes about
    multi_value   all codes of one key, in the order in which they appear
    multi_query   the codes of several keys
    tracking      names that stand for a number, each defined by the one before
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from data.tokenizers.base import Tokenizer
from data.windows import Selection, Windows, choose
from longrun.base.errors import DataError
from longrun.evaluation.protocols.base import QuestionProtocol, Selections, option, read_text
from longrun.evaluation.token_scores import Row, TokenScores, summary

_NEEDLE = 4  # key of the random streams; see tasks/questions.py
_WORDS = """
amber anchor arrow badge basin beacon birch blanket bridge bronze bucket button canoe canyon castle cedar chapel
cherry comet copper coral cotton crater crystal dagger desert dragon eagle ember falcon feather ferry flute forest
galaxy garden glacier granite hammer harbor helmet island ivory jacket jungle kettle lantern lemon lizard magnet
maple marble meadow mirror needle orchid oyster paddle pepper pigeon planet
"""
WORDS = _WORDS.split()


@dataclass(frozen=True)
class Trial:
    """statements: in the order in which they appear.
    target_index: the statement that stands at the depth; None: the first one, with the others evenly spread behind it.
    """

    statements: list[str]
    question: str
    answer: list[str]
    target_index: int | None = None


def _encode(trial: Trial, tokenizer: Tokenizer) -> list[np.ndarray]:
    """Ids of every statement, of the question and of the answer."""
    answer = "".join(f" {word}" for word in trial.answer)
    return tokenizer.encode_batch([*trial.statements, trial.question, answer])


@dataclass(frozen=True, eq=False)
class Haystack:
    """The text in which statements are hidden.

    tokens: integers (n,).  offsets: documents in it.  documents: numbers of those that are long enough.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    documents: np.ndarray
    separator: int

    def document(self, number: int, trial: Trial, encoded: list[np.ndarray], depth: float, length: int) -> np.ndarray:
        """Tokens (length + 1,) of trial `number`, int64. The last one is a target only and never fed."""
        *statements, question, answer = encoded
        rng = np.random.default_rng([_NEEDLE, number, 1])
        size = length - sum(map(len, encoded))
        source = self.documents[rng.integers(len(self.documents))]
        first = self.offsets[source] + 1  # behind its separator
        start = first + int(rng.random() * (self.offsets[source + 1] - first - size + 1))
        filler = self.tokens[start : start + size]
        cuts = [round(share * size) for share in shares(trial, depth, rng)]
        pieces = [[self.separator]]
        for begin, end, hidden in zip([0, *cuts], [*cuts, size], [*statements, question], strict=True):
            pieces += [filler[begin:end], hidden]
        return np.concatenate([*pieces, answer]).astype(np.int64)


def shares(trial: Trial, depth: float, rng: np.random.Generator) -> list[float]:
    """The place of each statement as a share of the text; increasing."""
    count = len(trial.statements)
    if trial.target_index is None:
        return [depth + (1 - depth) * i / count for i in range(count)]
    before, behind = trial.target_index, count - 1 - trial.target_index
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
    target = int(codes[0]) % len(words)
    statements = [statement(word, code) for word, code in zip(words, codes, strict=True)]
    return Trial(statements, f"\nThe code of {words[target]} is", [codes[target]], target)


def multi_value(words: list[str], codes: list[str]) -> Trial:
    statements = [statement(words[0], code) for code in codes]
    return Trial(statements, f"\nThe {len(codes)} codes of {words[0]} are", codes)


def multi_query(words: list[str], codes: list[str]) -> Trial:
    statements = [statement(word, code) for word, code in zip(words, codes, strict=True)]
    order = sorted(range(len(words)), key=lambda i: codes[i][::-1])  # not the order of the statements
    listed = ", ".join(words[i] for i in order)
    return Trial(statements, f"\nThe codes of {listed} are", [codes[i] for i in order])


def tracking(words: list[str], codes: list[str]) -> Trial:
    referents = [codes[0], *words]
    statements = [f"\n{word} stands for {other}.\n" for word, other in zip(words, referents, strict=False)]
    return Trial(statements, f"\nThe {len(words)} names that stand for {codes[0]} are", words)


VARIANTS = {each.__name__: each for each in (single, multi_key, multi_value, multi_query, tracking)}


@dataclass(frozen=True)
class Needle(QuestionProtocol):
    """Facts hidden in text, at every depth and length; the answer to a question about them is scored."""

    variant: str = option("the kind of needle", "single", choices=tuple(VARIANTS))
    depths: list[float] = option(  # noqa: RUF009
        "places of the needle, as shares of the text in front of the question",
        [0.0, 0.25, 0.5, 0.75, 1.0],
        filled=True,
        minimum=0.0,
        maximum=1.0,
        example="'[0,0.5,1]'",
    )
    needles: int = option("hidden statements (all variants but single)", 4, minimum=2, maximum=16, example=4)

    @property
    def label(self) -> str:
        return f"needle-{self.variant}"

    def stored_options(self) -> Row:
        names = ("variant", "trials", "depths", *(() if self.variant == "single" else ("needles",)))
        return {name: getattr(self, name) for name in names}

    def select(self, data: Any, lengths: list[int]) -> Selections:
        tokens, offsets = read_text(data, self)
        documents = choose(offsets, max(lengths) + 1, None, reserve=1)
        haystack = Haystack(tokens, offsets, documents, data.tokenizer.separator)
        trials = self._trials()
        encoded = [_encode(trial, data.tokenizer) for trial in trials]
        longest = max(sum(map(len, pieces)) for pieces in encoded)  # and a separator, without the last token
        selections: Selections = {}
        for length in lengths:
            if longest > length:
                selections[length] = DataError(f"what is hidden and asked for takes {longest} tokens by itself")
                continue
            rows = [
                haystack.document(number, trials[number], encoded[number], depth, length)
                for depth in self.depths
                for number in range(len(trials))
            ]
            selections[length] = self._selection(rows, [len(pieces[-1]) for pieces in encoded], length)
        if all(isinstance(each, DataError) for each in selections.values()):
            raise DataError(f"lengths={lengths}: {selections[lengths[0]]}.\nTry lengths=[{2 * longest},{4 * longest}]")
        return selections

    def breakdown(self, scores: TokenScores, selection: Selection, length: int, train_length: int) -> dict[str, list]:
        """One cell per depth."""
        depth = selection.labels["depth"]
        cells = [
            {"length": length, "depth": each, **summary(scores[depth[scores.document] == each])}
            for each in np.unique(depth).tolist()
        ]
        return {"cells": cells}

    def score_generation(self, generated: list[np.ndarray], selection: Selection, tokenizer: Tokenizer) -> Row:
        """`recall` is RULER's measure: the share of the words of the answer that occur in the generated text."""
        texts = [tokenizer.decode(ids) for ids in generated]
        answers = [trial.answer for _ in self.depths for trial in self._trials()]
        shares = [np.mean([word in text for word in words]) for words, text in zip(answers, texts, strict=True)]
        return {**super().score_generation(generated, selection, tokenizer), "recall": float(np.mean(shares))}

    def _trials(self) -> list[Trial]:
        """The trials, which are the same at every length and depth."""
        return [self._trial(number) for number in range(self.trials)]

    def _trial(self, number: int) -> Trial:
        rng = np.random.default_rng([_NEEDLE, number, 0])
        words = [WORDS[i] for i in rng.permutation(len(WORDS))]
        codes = [str(code) for code in 10000 + rng.choice(90000, len(WORDS), replace=False)]
        return VARIANTS[self.variant](words[: self.needles], codes[: self.needles])

    def _selection(self, rows: list[np.ndarray], answer_sizes: list[int], length: int) -> Selection:
        count = len(rows)
        offsets = np.arange(count + 1) * (length + 1)
        start, end = offsets[:-1], offsets[1:]
        size = np.tile(answer_sizes, len(self.depths))
        depths = np.repeat(np.array(self.depths, float), len(answer_sizes))
        windows = Windows(np.arange(count), start, end - 1, end - size, end)
        return Selection(np.concatenate(rows), offsets, windows, answers=True, labels={"depth": depths})

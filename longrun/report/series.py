"""Runs joined over seeds into lines: one line per scheme, extension and setting, one point per evaluated length.

A point's NLL is the sum of the NLLs of all seeds over the sum of their tokens; its perplexity is exp of that. Nothing
here averages perplexities.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field

from longrun.base.errors import DataError
from longrun.report.load import Evaluation, Run
from longrun.runs.run_folder import UNHASHED_KEYS
from longrun.tracking.wandb_metrics import usable_length

PROTOCOLS = ("fixed_targets", "sliding", "nonoverlap", "last_k")  # the order in which they lead a report
CONTROL = "window"  # the extension that is the windowed control: attention limited to the last train_length keys
# Runs that differ only here are seeds of one line: keys that leave the weights what they are, and the seed.
NEUTRAL = {*UNHASHED_KEYS, "seed"} - {"model.name"}


@dataclass(frozen=True)
class Point:
    """One length of one line, pooled over the seeds that have it; nll_seeds and bits_seeds in the order of seeds."""

    length: int
    tokens: int  # scored by each seed
    documents: int
    windows: int
    seeds: tuple[int, ...]
    nll: float
    nll_seeds: tuple[float, ...]
    bits_per_byte: float
    bits_seeds: tuple[float, ...]

    @property
    def ppl(self) -> float:
        return perplexity(self.nll)

    @property
    def ppl_seeds(self) -> tuple[float, ...]:
        return tuple(perplexity(nll) for nll in self.nll_seeds)


@dataclass
class Line:
    """A scheme under one extension and one setting, with every seed that was evaluated."""

    scheme: str
    extension: str
    variant: tuple[tuple[str, str], ...]
    protocol: str
    runs: dict[int, Run] = field(default_factory=dict)
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    points: dict[int, Point] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    control: "Line | None" = None  # the same checkpoints under a window; shared by a scheme's extensions

    @property
    def label(self) -> str:
        extension = "" if self.extension == "none" else f" + {self.extension}"
        short = ((key.removesuffix(".name").split(".")[-1], value) for key, value in self.variant)
        settings = ", ".join(f"{key}={value}" for key, value in short)
        return self.scheme + extension + (f" ({settings})" if settings else "")

    @property
    def train_length(self) -> int:
        return next(iter(self.evaluations.values())).train_length

    @property
    def tokenizer(self) -> str:
        return next(iter(self.evaluations.values())).record.get("tokenizer", "")

    @property
    def diverged(self) -> list[int]:
        """Lengths whose NLL is NaN or infinite."""
        return [length for length, point in self.points.items() if not math.isfinite(point.nll)]

    @property
    def home(self) -> Point | None:
        """The point at the training length, if it is finite."""
        return None if self.train_length in self.diverged else self.points.get(self.train_length)

    @property
    def longest(self) -> Point | None:
        return self.points[max(self.points)] if self.points else None

    def gap(self, length: int) -> float | None:
        """NLL at `length` minus NLL at the training length, in nats per token."""
        point = self.points.get(length)
        return None if point is None or self.home is None else point.nll - self.home.nll

    def usable(self) -> int | None:
        """The largest evaluated length with ppl <= 1.1 ppl(training length)."""
        gaps = {length: self.gap(length) for length in self.points if length >= self.train_length}
        return usable_length({length: gap for length, gap in gaps.items() if gap is not None})


def perplexity(nll: float) -> float:
    """exp(mean NLL); infinite instead of an OverflowError, NaN for NaN."""
    return math.inf if nll >= 700 else math.exp(nll)


def protocols(runs: list[Run]) -> list[str]:
    """The protocols that have numbers, the leading one first; per_position has its own section and comes last."""
    present = {evaluation.protocol for run in runs for evaluation in run.evaluations}
    rank = {name: index for index, name in enumerate(PROTOCOLS)}
    return sorted(present, key=lambda name: (name == "per_position", rank.get(name, len(rank)), name))


def lines_of(runs: list[Run], protocol: str) -> list[Line]:
    """The lines of one protocol, sorted by label, each with its windowed control attached where there is one."""
    variants = variants_of(runs)
    lines: dict[tuple, Line] = {}
    for run in runs:
        for evaluation in run.evaluations:
            if evaluation.protocol != protocol:
                continue
            variant = variants[run.folder]
            key = (evaluation.scheme, evaluation.extension, variant)
            _add(lines.setdefault(key, Line(*key, protocol)), run, evaluation)
    for line in lines.values():
        _pool(line)
    for (scheme, extension, variant), line in lines.items():
        if extension != CONTROL:
            line.control = lines.get((scheme, CONTROL, variant))
    shown = [line for key, line in lines.items() if key[1] != CONTROL or (key[0], "none", key[2]) not in lines]
    return sorted(shown, key=lambda line: (line.label, line.variant))


def _add(line: Line, run: Run, evaluation: Evaluation) -> None:
    if run.seed in line.runs:
        raise DataError(
            f"two runs of {line.label} with seed {run.seed} and the same settings:\n"
            f"{line.runs[run.seed].folder} and {run.folder}\nGive the report only one of them."
        )
    line.runs[run.seed] = run
    line.evaluations[run.seed] = evaluation


def _pool(line: Line) -> None:
    line.runs = dict(sorted(line.runs.items()))
    line.evaluations = dict(sorted(line.evaluations.items()))
    rows: dict[int, dict[int, dict]] = defaultdict(dict)
    for seed, evaluation in line.evaluations.items():
        for length, row in evaluation.rows.items():
            rows[length][seed] = row
        line.refused.update(evaluation.refused)
    line.points = {length: _point(length, rows[length]) for length in sorted(rows)}
    line.refused = {n: why for n, why in sorted(line.refused.items()) if n not in line.points}


def _point(length: int, by_seed: dict[int, dict]) -> Point:
    rows = list(by_seed.values())
    nats = [row["nll"] * row["tokens"] for row in rows]
    bits = [row.get("bits_per_byte") or math.nan for row in rows]
    text_bytes = [nat / math.log(2) / bit for nat, bit in zip(nats, bits, strict=True)]
    return Point(
        length=length,
        tokens=max(row["tokens"] for row in rows),
        documents=max(row.get("documents") or 0 for row in rows),
        windows=max(row.get("windows") or 0 for row in rows),
        seeds=tuple(by_seed),
        nll=sum(nats) / sum(row["tokens"] for row in rows),
        nll_seeds=tuple(row["nll"] for row in rows),
        bits_per_byte=sum(nats) / math.log(2) / sum(text_bytes),
        bits_seeds=tuple(bits),
    )


def variants_of(runs: list[Run]) -> dict:
    """Folder -> the settings that tell it from other runs of its scheme: (("optim.lr", "0.001"), ...), mostly ()."""
    settings = {run.folder: flat(run.config) for run in runs}
    found = {}
    for scheme in {run.scheme for run in runs}:
        family = [run.folder for run in runs if run.scheme == scheme]
        keys = sorted({key for folder in family for key in settings[folder]})
        varying = _named([key for key in keys if _values(settings, family, key) > 1], settings, family)
        for folder in family:
            found[folder] = tuple((key, settings[folder].get(key, "unset")) for key in varying)
    return found


def _values(settings: dict, folders: list, *keys: str) -> int:
    """How many different values the given keys take together."""
    return len({tuple(settings[folder].get(key, "unset") for key in keys) for folder in folders})


def _named(varying: list[str], settings: dict, folders: list) -> list[str]:
    """Without the keys that follow from their group's name: model=small says what layers=8, width=512 would."""
    kept = []
    for key in varying:
        name = f"{key.split('.')[0]}.name"
        follows = name in varying and _values(settings, folders, name, key) == _values(settings, folders, name)
        kept += [] if key != name and follows else [key]
    return kept


def flat(config: dict, prefix: str = "") -> dict[str, str]:
    """Nested config -> {"train.length": "128", ...} without the keys that do not change what is learned."""
    result: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in NEUTRAL:
            continue
        result.update(flat(value, f"{name}.") if isinstance(value, dict) else {name: str(value)})
    return result

"""Runs pooled over seeds: one curve per scheme, extension and setting, one point per evaluated length.

The NLL of a point is the sum of the NLLs of all seeds over the sum of their tokens; its perplexity is exp of that.
Perplexities are never averaged.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longrun.base.errors import DataError
from longrun.report.load import Evaluation, Run
from longrun.runs.listing import flatten, is_below
from longrun.runs.run_folder import UNHASHED_KEYS
from longrun.tracking.wandb_metrics import usable_length

PROTOCOLS = ("fixed_targets", "sliding", "nonoverlap", "last_k")  # by precedence: the first with numbers leads
CONTROL = "window"  # the extension of the windowed control: attention limited to the last train_length keys
# Runs that differ only here are seeds of one curve: the seed, and keys that do not change the trained weights.
POOLED_KEYS = {*UNHASHED_KEYS, "seed"} - {"model.name"}
Variant = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Point:
    """One length of a curve, pooled over the seeds that have it; nll_seeds and bits_seeds in the order of seeds."""

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
class Series:
    """NLL against length of one scheme under one extension and one setting, with every seed that was evaluated."""

    scheme: str
    extension: str
    variant: Variant
    protocol: str
    runs: dict[int, Run] = field(default_factory=dict)
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    points: dict[int, Point] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    control: "Series | None" = None  # the same checkpoints under a window; shared by a scheme's extensions

    @property
    def label(self) -> str:
        return label_of(self.scheme, self.extension, self.variant)

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
    def in_domain(self) -> Point | None:
        """The point at the training length, if it is finite."""
        return None if self.train_length in self.diverged else self.points.get(self.train_length)

    @property
    def longest(self) -> Point | None:
        return self.points[max(self.points)] if self.points else None

    def gap(self, length: int) -> float | None:
        """NLL at `length` minus NLL at the training length, in nats per token."""
        point = self.points.get(length)
        return None if point is None or self.in_domain is None else point.nll - self.in_domain.nll

    def usable_length(self) -> int | None:
        """The largest evaluated length with ppl <= 1.1 ppl(training length)."""
        gaps = {length: self.gap(length) for length in self.points if length >= self.train_length}
        return usable_length({length: gap for length, gap in gaps.items() if gap is not None})


def label_of(scheme: str, extension: str, variant: Variant) -> str:
    """`rope + yarn (lr=0.01)`."""
    suffix = "" if extension == "none" else f" + {extension}"
    settings = ", ".join(f"{key.removesuffix('.name').split('.')[-1]}={value}" for key, value in variant)
    return scheme + suffix + (f" ({settings})" if settings else "")


def perplexity(nll: float) -> float:
    """exp(mean NLL); infinite instead of an OverflowError, NaN for NaN."""
    return math.inf if nll >= 700 else math.exp(nll)


def protocols(runs: list[Run]) -> list[str]:
    """The protocols that have numbers, the leading one first; per_position has its own section and comes last."""
    present = {evaluation.protocol for run in runs for evaluation in run.evaluations}
    rank = {name: index for index, name in enumerate(PROTOCOLS)}
    return sorted(present, key=lambda name: (name == "per_position", rank.get(name, len(rank)), name))


def series_of(runs: list[Run], protocol: str) -> list[Series]:
    """The curves of one protocol, sorted by label, each with its windowed control where there is one.

    Raises DataError if two runs have the same scheme, settings and seed.
    """
    variants = variants_of(runs)
    curves: dict[tuple[str, str, Variant], Series] = {}
    for run in runs:
        for evaluation in run.evaluations:
            if evaluation.protocol == protocol:
                key = (evaluation.scheme, evaluation.extension, variants[run.folder])
                _add(curves.setdefault(key, Series(*key, protocol)), run, evaluation)
    for curve in curves.values():
        _pool(curve)
    for (scheme, extension, variant), curve in curves.items():
        if extension != CONTROL:
            curve.control = curves.get((scheme, CONTROL, variant))
    shown = [curve for key, curve in curves.items() if key[1] != CONTROL or (key[0], "none", key[2]) not in curves]
    return sorted(shown, key=lambda curve: (curve.label, curve.variant))


def _add(curve: Series, run: Run, evaluation: Evaluation) -> None:
    if run.seed in curve.runs:
        raise DataError(
            f"two runs of {curve.label} with seed {run.seed} and the same settings:\n"
            f"{curve.runs[run.seed].folder} and {run.folder}\nGive the report only one of them."
        )
    curve.runs[run.seed] = run
    curve.evaluations[run.seed] = evaluation


def _pool(curve: Series) -> None:
    """Compute the points and refusals from the evaluations of all seeds."""
    curve.runs = dict(sorted(curve.runs.items()))
    curve.evaluations = dict(sorted(curve.evaluations.items()))
    rows: dict[int, dict[int, dict]] = defaultdict(dict)
    for seed, evaluation in curve.evaluations.items():
        for length, row in evaluation.rows.items():
            rows[length][seed] = row
        curve.refused.update(evaluation.refused)
    curve.points = {length: _point(length, rows[length]) for length in sorted(rows)}
    curve.refused = {n: why for n, why in sorted(curve.refused.items()) if n not in curve.points}


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


def variants_of(runs: list[Run]) -> dict[Path, Variant]:
    """Folder -> settings that distinguish it from other runs of its scheme: (("optim.lr", "0.001"), ...), mostly ()."""
    settings = {run.folder: flat(run.config) for run in runs}
    variants = {}
    for scheme in {run.scheme for run in runs}:
        folders = [run.folder for run in runs if run.scheme == scheme]
        keys = sorted({key for folder in folders for key in settings[folder]})
        varying = _implied_removed([key for key in keys if _distinct(settings, folders, key) > 1], settings, folders)
        for folder in folders:
            variants[folder] = tuple((key, settings[folder].get(key, "unset")) for key in varying)
    return variants


def _distinct(settings: dict, folders: Iterable[Path], *keys: str) -> int:
    """Number of different value combinations of the keys."""
    return len({tuple(settings[folder].get(key, "unset") for key in keys) for folder in folders})


def _implied_removed(varying: list[str], settings: dict, folders: list[Path]) -> list[str]:
    """The keys that do not follow from their group's name: model=small implies layers=8, width=512."""
    names = {key: f"{key.split('.')[0]}.name" for key in varying}
    return [
        key
        for key, name in names.items()
        if key == name
        or name not in varying
        or _distinct(settings, folders, name, key) != _distinct(settings, folders, name)
    ]


def flat(config: dict[str, Any]) -> dict[str, str]:
    """Nested config -> {"train.length": "128", ...} without the keys that do not change what is learned."""
    return {key: str(value) for key, value in flatten(config) if not is_below(key, POOLED_KEYS)}

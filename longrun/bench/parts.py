"""The parts of the benchmark: how each is run with the options of the command, and how its result is printed."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch

from longrun.bench import data, evaluation, generation, protocols, training
from longrun.bench.timing import SHAPES

Row = dict[str, Any]
Part = tuple[Callable[[argparse.Namespace, torch.device], Iterator[Row]], Callable[[Row], list[str]]]


def run_training(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    job = training.Training(
        SHAPES[options.shape], options.schemes, options.precision, options.compile, options.optimizer,
        not options.no_peers, options.rounds or 5,
    )  # fmt: skip
    yield training.run(job, device)


def run_evaluation(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """One result per scheme: all schemes take hours, and finished ones are kept."""
    rounds = 2 if options.rounds is None else options.rounds
    for scheme in options.schemes:
        job = evaluation.Evaluation(
            SHAPES[options.shape], (scheme,), options.lengths, options.precision, rounds, options.limit
        )
        yield evaluation.run(job, device)


def run_protocols(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    job = protocols.Protocols(SHAPES[options.shape], precision=options.precision, rounds=options.rounds or 2)
    yield protocols.run(job, device)


def run_generation(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    prompts = (16, 32) if options.shape == "tiny" else (128, 1024)
    job = generation.Generation(
        SHAPES[options.shape], options.schemes, prompts, precision=options.precision, rounds=options.rounds or 2
    )
    yield generation.run(job, device)


def run_data(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    size = {"megabytes": 0.1, "vocabulary": 300} if options.shape == "tiny" else {}
    job = data.Data(SHAPES[options.shape], precision=options.precision, rounds=options.rounds or 5, **size)
    yield data.run(job, device)


PARTS: dict[str, Part] = {
    "training": (run_training, training.format_result),
    "evaluation": (run_evaluation, evaluation.format_result),
    "protocols": (run_protocols, protocols.format_result),
    "generation": (run_generation, generation.format_result),
    "data": (run_data, data.format_result),
}

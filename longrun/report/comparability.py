"""Conditions of a fair comparison: refusals (DataError), and the caveats that a report must carry."""

from collections import defaultdict
from pathlib import Path

from longrun.base.errors import DataError
from longrun.report import number_format as fmt
from longrun.report.load import Evaluation, Run
from longrun.report.series import Series, flat

ENOUGH_SEEDS = 3
ENOUGH_DOCUMENTS = 30
LITTLE_TRAINING = 0.25  # relative decrease of the logged loss below which a run counts as hardly trained
LITTLE_CONTEXT = 0.01  # nats per token gained from the second half of the training length
MOST_SETTINGS = 6  # unequal settings that are listed


def check_comparable(runs: list[Run]) -> None:
    """Raise DataError if runs of one protocol were not scored on the same targets, naming both groups."""
    by_protocol = defaultdict(list)
    for run in runs:
        for evaluation in run.evaluations:
            by_protocol[evaluation.protocol].append((run, evaluation))
    if not by_protocol and not any(run.task_evaluations for run in runs):
        example = runs[0].folder
        raise DataError(
            f"{len(runs)} run(s) found, none evaluated yet: there is no eval/*.json in them\n"
            f"Evaluate first, for example: python eval.py run={example}"
        )
    for protocol, members in by_protocol.items():
        _check_targets(protocol, members)


def _check_targets(protocol: str, members: list[tuple[Run, Evaluation]]) -> None:
    """One set of targets per tokenizer; across tokenizers the same text, so that bits per byte are comparable."""
    by_tokenizer = defaultdict(list)
    for run, evaluation in members:
        by_tokenizer[evaluation.record.get("tokenizer", "")].append((run, evaluation))
    for same_tokens in by_tokenizer.values():
        _refuse_if_different(protocol, same_tokens, "targets_hash", "target tokens")
    if len(by_tokenizer) > 1:
        _refuse_if_different(protocol, members, "data_fingerprint", "text")


def _refuse_if_different(protocol: str, members: list[tuple[Run, Evaluation]], key: str, noun: str) -> None:
    groups: dict[str, dict[Path, None]] = defaultdict(dict)
    for run, evaluation in members:
        groups[str(evaluation.record.get(key, "unknown"))][run.folder] = None
    if len(groups) < 2:
        return
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    listing = "\n".join(f"  {key} {value}: {', '.join(map(str, folders))}" for value, folders in ordered)
    mixed = set.intersection(*(set(folders) for folders in groups.values()))
    remedy = (
        "The same folder is in both groups: evaluate its extensions with the same lengths and data as the rest."
        if mixed
        else "Evaluate them with the same lengths and data, or report one group alone:\n  python -m scripts.report "
        + " ".join(map(str, ordered[0][1]))
        + " --out FOLDER"
    )
    raise DataError(
        f"these runs were not scored on the same {noun} (protocol {protocol}), so they cannot be compared:\n"
        f"{listing}\n{remedy}"
    )


def tokenizers(curves: list[Series]) -> list[str]:
    return sorted({curve.tokenizer for curve in curves})


def caveats(runs: list[Run], curves: list[Series]) -> list[str]:
    """One sentence per weakness of the comparison; empty if there is none."""
    return [
        *_few_seeds(curves),
        *_unequal_seeds(curves),
        *_little_training(curves),
        *_little_context(curves),
        *_few_documents(curves),
        *_several_tokenizers(curves),
        *_incomplete(runs, curves),
        *unequal_settings(curves),
    ]


def _few_seeds(curves: list[Series]) -> list[str]:
    counts = sorted({len(curve.runs) for curve in curves})
    if counts[0] >= ENOUGH_SEEDS:
        return []
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [
        f"{seeds} seed{'' if seeds == '1' else 's'} per scheme: the numbers describe these checkpoints; "
        f"a claim about a scheme needs at least {ENOUGH_SEEDS}."
    ]


def _unequal_seeds(curves: list[Series]) -> list[str]:
    by_seeds: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for curve in curves:
        by_seeds[tuple(curve.evaluations)].append(curve.label)
    if len(by_seeds) < 2:
        return []
    parts = [f"{', '.join(map(str, seeds))} ({', '.join(labels)})" for seeds, labels in by_seeds.items()]
    return [
        f"Not the same seeds: {'; '.join(parts)}. The curves then pool different checkpoints; "
        "the paired differences use only the seeds that both sides have."
    ]


def hardly_trained(curve: Series) -> bool:
    """True if every run started from scratch and its loss fell by less than LITTLE_TRAINING."""
    return all(_hardly_trained(run) for run in curve.runs.values())


def _hardly_trained(run: Run) -> bool:
    losses = [row["loss"] for row in run.training if row["loss"] is not None]
    return not run.config.get("init_from") and len(losses) > 1 and losses[-1] > (1 - LITTLE_TRAINING) * losses[0]


def _little_training(curves: list[Series]) -> list[str]:
    labels = [curve.label for curve in curves if hardly_trained(curve)]
    if not labels:
        return []
    return [
        f"Hardly trained: {', '.join(labels)}: the loss fell by less than {LITTLE_TRAINING:.0%}. "
        "The curve of an untrained model is always flat."
    ]


def _little_context(curves: list[Series]) -> list[str]:
    gains = {curve.label: curve.gap(curve.train_length // 2) for curve in curves}
    small = [f"{label} ({gain:+.3f})" for label, gain in gains.items() if gain is not None and gain < LITTLE_CONTEXT]
    if not small:
        return []
    return [
        f"Hardly use context: {', '.join(small).replace('-', '−')}: half of the training length costs them less "
        f"than {LITTLE_CONTEXT} nats per token. If a model does not benefit from context within the training length, a "
        "flat curve beyond it is not evidence of extrapolation."
    ]


def _few_documents(curves: list[Series]) -> list[str]:
    documents = min((point.documents for curve in curves for point in curve.points.values()), default=0)
    if not 0 < documents < ENOUGH_DOCUMENTS:
        return []
    return [f"Only {documents} documents: percentile intervals over so few are too narrow."]


def _several_tokenizers(curves: list[Series]) -> list[str]:
    count = len(tokenizers(curves))
    if count < 2:
        return []
    return [
        f"{count} different tokenizers: perplexity and NLL per token are not comparable between them, so this report "
        "compares bits per byte only. Each tokenizer has its own targets, so these are of stretches of text that are "
        "not the same."
    ]


def _incomplete(runs: list[Run], curves: list[Series]) -> list[str]:
    """Sentences about runs without evaluation, unfinished training, and NLLs that are not finite."""
    sentences = []
    without = [run.folder.name for run in runs if not run.all_evaluations]
    if without:
        sentences.append(f"Not evaluated, so absent from the comparison: {', '.join(without)}.")
    unfinished = [run.folder.name for run in runs if run.evaluations and not run.done]
    if unfinished:
        sentences.append(f"Training had not finished when these were read: {', '.join(unfinished)}.")
    diverged = [f"{curve.label} ({fmt.lengths(curve.diverged)})" for curve in curves if curve.diverged]
    if diverged:
        sentences.append(f"NLL not finite, so without interval and comparison: {', '.join(diverged)}.")
    return sentences


def unequal_settings(curves: list[Series]) -> list[str]:
    """Settings outside the encoding in which the curves differ: their models were trained under unequal conditions."""
    settings = [flat(run.config) for curve in curves for run in curve.runs.values()]
    names = [curve.label for curve in curves for _ in curve.runs]
    keys = sorted({key for each in settings for key in each if key != "pe" and not key.startswith("pe.")})
    differing = {}
    for key in keys:
        by_value: dict[str, list[str]] = {}
        for each, name in zip(settings, names, strict=True):
            members = by_value.setdefault(each.get(key, "unset"), [])
            if name not in members:
                members.append(name)
        if len(by_value) > 1:
            differing[key] = "; ".join(f"{value} ({', '.join(members)})" for value, members in by_value.items())
    return [f"Not trained on equal terms: {key} is {text}." for key, text in list(differing.items())[:MOST_SETTINGS]]

"""What may be compared with what: refusals (DataError) and the caveats a report must carry."""

from collections import defaultdict
from pathlib import Path

from longrun.base.errors import DataError
from longrun.report.load import Evaluation, Run
from longrun.report.series import Line, flat

ENOUGH_SEEDS = 3
ENOUGH_DOCUMENTS = 30
LITTLE_TRAINING = 0.25  # share of the first logged loss that the training took off
LITTLE_CONTEXT = 0.01  # nats per token that the second half of the training length is worth to a model


def check_comparable(runs: list[Run]) -> None:
    """Refuse runs of one protocol that were not scored on the same targets, naming both groups."""
    by_protocol = defaultdict(list)
    for run in runs:
        for evaluation in run.evaluations:
            by_protocol[evaluation.protocol].append((run, evaluation))
    if not by_protocol and not any(run.answers for run in runs):
        example = runs[0].folder
        raise DataError(
            f"{len(runs)} run(s) found, none evaluated yet: there is no eval/*.json in them\n"
            f"Evaluate first, for example: python eval.py run={example}"
        )
    for protocol, members in by_protocol.items():
        _check_targets(protocol, members)


def _check_targets(protocol: str, members: list[tuple[Run, Evaluation]]) -> None:
    """One target set per tokenizer; across tokenizers at least the same text, so that bits per byte compare."""
    by_tokenizer = defaultdict(list)
    for run, evaluation in members:
        by_tokenizer[evaluation.record.get("tokenizer", "")].append((run, evaluation))
    for same_tokens in by_tokenizer.values():
        _refuse_if_split(protocol, same_tokens, "targets_hash", "target tokens")
    if len(by_tokenizer) > 1:
        _refuse_if_split(protocol, members, "data_fingerprint", "text")


def _refuse_if_split(protocol: str, members: list[tuple[Run, Evaluation]], key: str, what: str) -> None:
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
        f"these runs were not scored on the same {what} (protocol {protocol}), so the report will not compare them:\n"
        f"{listing}\n{remedy}"
    )


def tokenizers(lines: list[Line]) -> list[str]:
    return sorted({line.tokenizer for line in lines})


def caveats(runs: list[Run], lines: list[Line]) -> list[str]:
    """Plain sentences about what weakens the comparison; an empty list is good news."""
    found = []
    seeds = sorted({len(line.runs) for line in lines})
    if seeds[0] < ENOUGH_SEEDS:
        have = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        found.append(
            f"{have} seed{'' if have == '1' else 's'} per scheme: the numbers describe these checkpoints; "
            f"a claim about a scheme needs at least {ENOUGH_SEEDS}."
        )
    found += _unequal_seeds(lines) + _little_training(lines) + _little_context(lines)
    documents = min((point.documents for line in lines for point in line.points.values()), default=0)
    if 0 < documents < ENOUGH_DOCUMENTS:
        found.append(f"Only {documents} documents: percentile intervals of so few are too narrow.")
    if len(tokenizers(lines)) > 1:
        found.append(
            f"{len(tokenizers(lines))} different tokenizers: perplexity and NLL per token are not comparable "
            "between them, so this report compares bits per byte only, and of stretches of text that are not the same: "
            "each tokenizer has its own targets."
        )
    without = [run.folder.name for run in runs if not run.evaluations and not run.answers]
    if without:
        found.append(f"Not evaluated, so absent from the comparison: {', '.join(without)}.")
    unfinished = [run.folder.name for run in runs if run.evaluations and not run.done]
    if unfinished:
        found.append(f"Training had not finished when these were read: {', '.join(unfinished)}.")
    diverged = [f"{line.label} ({', '.join(f'{n:,}' for n in line.diverged)})" for line in lines if line.diverged]
    if diverged:
        found.append(f"NLL not finite, so without interval and comparison: {', '.join(diverged)}.")
    return found + unequal_settings(lines)


def _unequal_seeds(lines: list[Line]) -> list[str]:
    by_seeds: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for line in lines:
        by_seeds[tuple(line.evaluations)].append(line.label)
    if len(by_seeds) < 2:
        return []
    parts = [f"{', '.join(map(str, seeds))} ({', '.join(labels)})" for seeds, labels in by_seeds.items()]
    return [
        f"Not the same seeds: {'; '.join(parts)}. The curves then pool different checkpoints; "
        "the paired differences use only the seeds that both sides have."
    ]


def hardly_trained(line: Line) -> bool:
    """Whether every run of the line began from nothing and ended close to where it began."""

    def hardly(run: Run) -> bool:
        losses = [row["loss"] for row in run.training if row["loss"] is not None]
        return not run.config.get("init_from") and len(losses) > 1 and losses[-1] > (1 - LITTLE_TRAINING) * losses[0]

    return all(map(hardly, line.runs.values()))


def _little_training(lines: list[Line]) -> list[str]:
    labels = [line.label for line in lines if hardly_trained(line)]
    if not labels:
        return []
    return [
        f"Hardly trained: {', '.join(labels)}: the loss fell by less than {LITTLE_TRAINING:.0%}. "
        "A model that has learned nothing is perfectly flat."
    ]


def _little_context(lines: list[Line]) -> list[str]:
    """An untrained model is perfectly flat: who gains nothing from context shows nothing by holding its perplexity."""
    gains = {line.label: line.gap(line.train_length // 2) for line in lines}
    idle = [f"{label} ({gain:+.3f})" for label, gain in gains.items() if gain is not None and gain < LITTLE_CONTEXT]
    if not idle:
        return []
    return [
        f"Hardly use context at all: {', '.join(idle).replace('-', '−')}: nats per token lost with half the training "
        f"length, less than {LITTLE_CONTEXT}. For such models a flat curve beyond it says little."
    ]


def unequal_settings(lines: list[Line]) -> list[str]:
    """Settings outside the encoding in which the lines differ: the schemes were then not trained on equal terms."""
    settings = [flat(run.config) for line in lines for run in line.runs.values()]
    names = [line.label for line in lines for _ in line.runs]
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
    return [f"Not trained on equal terms: {key} is {text}." for key, text in list(differing.items())[:6]]

"""Provenance of the numbers: protocol, text and software of the evaluations, and the commands that reproduce them."""

import json
import shlex
from collections import defaultdict

from longrun.report.load import Run
from longrun.report.protocol_results import ProtocolResults
from longrun.report.series import variants_of

SETTINGS = ("data", "model")  # groups selected by name on the command line
KEYS = ("train.length", "train.steps", "train.batch", "optim.lr")


def facts(runs: list[Run], protocols: list[ProtocolResults]) -> list[tuple[str, str]]:
    """(name, value) of everything that identifies the evaluated targets and the software."""
    pairs = []
    for results in protocols:
        records = [each.record for curve in results.curves for each in curve.evaluations.values()]
        pairs += [
            ("protocol", results.protocol),
            ("scored", results.scope),
            ("targets_hash", _values(records, "targets_hash")),
            ("options", _values(records, "options")),
        ]
    records = [evaluation.record for run in runs for evaluation in run.all_evaluations]
    names = {
        "data": "data", "split": "split", "data fingerprint": "data_fingerprint", "tokenizer digest": "tokenizer",
    }  # fmt: skip
    pairs += [(name, _values(records, key)) for name, key in names.items()]
    return [(name, value) for name, value in pairs + _software(runs) if value]


def _software(runs: list[Run]) -> list[tuple[str, str]]:
    """environment.json: the distinct values of each key; packages on one line."""
    values: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in run.environment.items():
            if isinstance(value, dict):
                value = ", ".join(f"{name} {version}" for name, version in value.items() if version)
            if key != "command" and value not in (None, ""):
                values.setdefault(key, {})[str(value)] = None
    return [(key, "; ".join(each)) for key, each in values.items()]


def _values(records: list[dict], key: str) -> str:
    values = dict.fromkeys(_text(record[key]) for record in records if record.get(key) not in (None, "", {}))
    return "; ".join(values)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else str(value)


def commands(runs: list[Run], report_command: str) -> list[str]:
    """Command lines of training, evaluation and report. Keys not shown are in each run's config.yaml."""
    variants = variants_of(runs)
    groups: dict[tuple, dict[str, list[str]]] = defaultdict(lambda: {"pe": [], "seed": []})
    for run in runs:
        variant = [f"{key}={value}" for key, value in variants[run.folder] if key not in KEYS]
        root = str(run.config.get("root", run.folder.parent))
        shared = tuple(_settings(run.config) + variant + [f"root={root}"])
        for name, value in (("pe", _name(run.config, "pe") or run.scheme), ("seed", str(run.seed))):
            if value not in groups[shared][name]:
                groups[shared][name].append(value)
    training = []
    for shared, sweep in groups.items():
        multirun = " -m" if len(sweep["pe"]) * len(sweep["seed"]) > 1 else ""
        axes = f"pe={','.join(sweep['pe'])} seed={','.join(sorted(sweep['seed'], key=int))}"
        training.append(f"python train.py{multirun} {axes} {shlex.join(shared)}")
    return training + _evaluations(runs) + [report_command]


def _settings(config: dict) -> list[str]:
    settings = [f"{group}={name}" for group in SETTINGS if (name := _name(config, group))]
    for key in KEYS:
        group, leaf = key.split(".")
        value = config.get(group, {}).get(leaf) if isinstance(config.get(group), dict) else None
        if value is not None:
            settings.append(f"{key}={value}")
    return settings


def _name(config: dict, group: str) -> str | None:
    value = config.get(group)
    name = value.get("name") if isinstance(value, dict) else value
    return None if name is None else str(name)


def _evaluations(runs: list[Run]) -> list[str]:
    """One line per protocol and extension; <run folder> stands for each of them."""
    lengths: dict[tuple[str, str], set[int]] = defaultdict(set)
    options: dict[tuple[str, str], dict] = {}
    for run in runs:
        for each in run.all_evaluations:
            lengths[each.protocol, each.extension] |= set(each.rows) | set(each.refused)
            options[each.protocol, each.extension] = each.record.get("options") or {}
    return [
        f"python eval.py run=<run folder> protocol={protocol.split('-')[0]} "
        f"lengths={json.dumps(sorted(ns), separators=(',', ':'))}"
        + "".join(f" {key}={json.dumps(value)}" for key, value in options[protocol, extension].items())
        + ("" if extension == "none" else f" extension={extension.split(',')[0]}")
        for (protocol, extension), ns in sorted(lengths.items())
    ]

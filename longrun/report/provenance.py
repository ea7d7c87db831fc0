"""Where the numbers come from: what was scored, on which text, by which software, and the commands to do it again."""

import json
import shlex
from collections import defaultdict

from longrun.report.load import Run
from longrun.report.series import variants_of
from longrun.report.study import Study

SETTINGS = ("data", "model")  # groups that are chosen by name on the command line
KEYS = ("train.length", "train.steps", "train.batch", "optim.lr")


def facts(runs: list[Run], studies: list[Study]) -> list[tuple[str, str]]:
    """Name and value of everything that identifies the evaluated targets and the software."""
    found = []
    for study in studies:
        records = [each.record for line in study.lines for each in line.evaluations.values()]
        found += [
            ("protocol", study.protocol),
            ("scored", study.scope),
            ("targets_hash", _values(records, "targets_hash")),
            ("options", _values(records, "options")),
        ]
    records = [evaluation.record for run in runs for evaluation in (*run.evaluations, *run.answers)]
    found += [
        (name, _values(records, key))
        for name, key in (
            ("data", "data"),
            ("split", "split"),
            ("data fingerprint", "data_fingerprint"),
            ("tokenizer digest", "tokenizer"),
        )
    ]
    found += _software(runs)
    return [(name, value) for name, value in found if value]


def _software(runs: list[Run]) -> list[tuple[str, str]]:
    """environment.json: each of its values once, or all the different ones; packages in one line."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in run.environment.items():
            if isinstance(value, dict):
                value = ", ".join(f"{name} {version}" for name, version in value.items() if version)
            if key == "command" or value in (None, ""):
                continue
            found.setdefault(key, {})[str(value)] = None
    return [(key, "; ".join(values)) for key, values in found.items()]


def _values(records: list[dict], key: str) -> str:
    values = dict.fromkeys(_text(record[key]) for record in records if record.get(key) not in (None, "", {}))
    return "; ".join(values)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else str(value)


def commands(runs: list[Run], studies: list[Study], report_command: str) -> list[str]:
    """Training, evaluation and report as they would be typed. Keys not shown are in each run's config.yaml."""
    variants = variants_of(runs)
    groups: dict[tuple, dict[str, list[str]]] = defaultdict(lambda: {"pe": [], "seed": []})
    for run in runs:
        variant = [f"{key}={value}" for key, value in variants[run.folder] if key not in KEYS]
        root = str(run.config.get("root", run.folder.parent))
        chosen = tuple(_chosen(run.config) + variant + [f"root={root}"])
        for name, value in (("pe", _name(run.config, "pe") or run.scheme), ("seed", str(run.seed))):
            if value not in groups[chosen][name]:
                groups[chosen][name].append(value)
    trained = []
    for chosen, sweep in groups.items():
        many = " -m" if len(sweep["pe"]) * len(sweep["seed"]) > 1 else ""
        axes = f"pe={','.join(sweep['pe'])} seed={','.join(sorted(sweep['seed'], key=int))}"
        trained.append(f"python train.py{many} {axes} {shlex.join(chosen)}")
    return trained + _evaluations(runs) + [report_command]


def _chosen(config: dict) -> list[str]:
    named = [f"{group}={name}" for group in SETTINGS if (name := _name(config, group))]
    for key in KEYS:
        group, leaf = key.split(".")
        value = config.get(group, {}).get(leaf) if isinstance(config.get(group), dict) else None
        if value is not None:
            named.append(f"{key}={value}")
    return named


def _name(config: dict, group: str) -> str | None:
    value = config.get(group)
    name = value.get("name") if isinstance(value, dict) else value
    return None if name is None else str(name)


def _evaluations(runs: list[Run]) -> list[str]:
    """One line per protocol and extension; <run folder> stands for each of them."""
    lengths: dict[tuple[str, str], set[int]] = defaultdict(set)
    options: dict[tuple[str, str], dict] = {}
    for run in runs:
        for each in (*run.evaluations, *run.answers):
            lengths[each.protocol, each.extension] |= set(each.rows) | set(each.refused)
            options[each.protocol, each.extension] = each.record.get("options") or {}
    return [
        f"python eval.py run=<run folder> protocol={protocol.split('-')[0]} "
        f"lengths={json.dumps(sorted(ns), separators=(',', ':'))}"
        + "".join(f" {key}={json.dumps(value)}" for key, value in options[protocol, extension].items())
        + ("" if extension == "none" else f" extension={extension.split(',')[0]}")
        for (protocol, extension), ns in sorted(lengths.items())
    ]

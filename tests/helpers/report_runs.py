"""Run folders with known numbers, in the files that train.py and eval.py write: the generator behind test_report."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

TRAIN_LENGTH = 128
LENGTHS = (64, 128, 256, 512, 1024, 2048)
ENVIRONMENT = {"python": "3.11.2", "packages": {"torch": "2.13.0", "numpy": "2.4.6"}, "commit": "abc", "command": ["x"]}
DOCUMENTS = 16
TOKENS = 24  # scored per document, on average


def gap(scheme: str, length: int) -> float:
    """NLL above a scheme's own level at the training length: explosions and flat lines as the literature has them."""
    x = math.log2(length / TRAIN_LENGTH)
    shapes = {
        "sinusoidal": 2.2 * max(0.0, x) ** 0.8,
        "rope": 0.45 * max(0.0, x) ** 1.4,
        "nope": 0.9 * max(0.0, x) ** 1.2,
        "t5": -0.02 * min(x, 2) + 0.09 * max(0.0, x - 2),
        "alibi": -0.003 * x,
        "kerple_log": -0.02 * x,
    }
    return shapes.get(scheme, 0.0) + (0.05 if x < 0 else 0.0)


LEVEL = {"sinusoidal": 1.92, "rope": 1.83, "nope": 1.95, "t5": 1.82, "alibi": 1.84, "kerple_log": 1.81, "learned": 1.93}


def per_token(scheme, seed, lengths=LENGTHS, windowed=False, documents=DOCUMENTS, tokens=TOKENS):
    """{length: columns}: float32 NLLs whose document part is shared by every scheme, seed and length."""
    texts = np.random.default_rng(1)
    counts = texts.integers(tokens // 2, 2 * tokens, documents)
    document = np.repeat(np.arange(documents), counts)
    hardness = np.repeat(texts.normal(0, 0.3, documents), counts) + texts.gamma(1.0, 0.5, counts.sum()) - 0.5
    bytes_ = texts.integers(1, 8, counts.sum())
    scheme_number = sum(map(ord, scheme))
    taste = np.repeat(np.random.default_rng(scheme_number).normal(0, 0.05, documents), counts)
    noise = np.random.default_rng([seed, scheme_number])
    found = {}
    for length in lengths:
        rise = gap(scheme, min(length, TRAIN_LENGTH) if windowed else length)
        level = LEVEL.get(scheme, 1.9) + 0.02 * seed + rise
        level = level + taste * (1 + max(0.0, math.log2(length / TRAIN_LENGTH)) * (not windowed))
        nll = np.maximum(0.0, level + hardness + noise.normal(0, 0.05, counts.sum()))
        found[length] = {
            "length": np.full(len(nll), length, np.int32),
            "document": document.astype(np.int32),
            "position": np.concatenate([2100 + np.arange(n) for n in counts]).astype(np.int32),
            "window_position": np.full(len(nll), length - 1, np.int32),
            "token": np.zeros(len(nll), np.int32),
            "bytes": bytes_.astype(np.int16),
            "nll": nll.astype(np.float32),
        }
    return found


def row(length, columns):
    nll = columns["nll"].astype(np.float64)
    return {
        "length": length,
        "tokens": len(nll),
        "documents": len(np.unique(columns["document"])),
        "windows": len(np.unique(columns["document"])),
        "nll": float(nll.mean()),
        "ppl": float(np.exp(nll.mean())),
        "bits_per_byte": float(nll.sum() / math.log(2) / columns["bytes"].sum()),
    }


def write_evaluation(folder: Path, scheme, seed, extension="none", lengths=LENGTHS, refused=(), size=None, **options):
    """A fixed_targets evaluation. size: documents= and tokens= of per_token; like: the scheme whose NLLs are written
    under this one's name; further options: see write_files."""
    lengths = [n for n in lengths if n not in refused]
    windowed = extension == "window"
    columns = per_token(options.pop("like", scheme), seed, lengths, windowed=windowed, **(size or {}))
    write_files(folder, scheme, columns, extension=extension, refused=refused, **options)
    return columns


def write_files(folder, scheme, columns, refused=(), parquet=True, protocol="fixed_targets", **record):
    """eval/<protocol>[-<extension>].json and .parquet from {length: columns}; record: keys of the JSON."""
    shared = {
        "protocol": protocol,
        "scheme": scheme,
        "extension": "none",
        "train_length": TRAIN_LENGTH,
        "targets_hash": "5f3a9c1e7b20",
        "tokenizer": "bpe-1a2b3c",
        "data": "stdlib",
        "data_fingerprint": "d4e5f6a7",
        "split": "test",
        "options": {"documents": 64, "targets": 24, "blocks": 1},
    }
    rows = [row(n, each) for n, each in columns.items()]
    rows += [{"length": n, "refused": f"the table has 128 positions, asked for {n}"} for n in refused]
    extension = record.get("extension", "none")
    stem = folder / "eval" / (protocol if extension == "none" else f"{protocol}-{extension}")
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(shared | {"rows": rows} | record))
    with (stem.parent / "costs.jsonl").open("a") as file:
        evaluation = protocol if extension == "none" else f"{protocol} {extension}"
        costs = [{"evaluation": evaluation, "length": n, "seconds": n / 256} for n in columns]
        file.writelines(json.dumps(cost) + "\n" for cost in costs)
    if parquet:
        table = {key: np.concatenate([each[key] for each in columns.values()]) for key in next(iter(columns.values()))}
        pq.write_table(pa.table(table), stem.with_suffix(".parquet"))


def write_positions(folder: Path, scheme, seed, longest=2048, parquet=True):
    """A per_position evaluation: every place of two windows, NLL falling at first and then along the scheme's gap."""
    place = np.tile(np.arange(longest, dtype=np.int32), 2)
    rise = np.array([gap(scheme, n) for n in range(TRAIN_LENGTH, longest + 1)])
    after = rise[np.maximum(0, place - TRAIN_LENGTH)]
    nll = (LEVEL.get(scheme, 1.9) + 0.02 * seed + 2.5 / (1 + place / 4) + after).astype(np.float32)
    edges = [0, *(n for n in LENGTHS if n >= TRAIN_LENGTH)]
    buckets = []
    for start, stop in pairwise(edges):
        mean = float(nll[(place >= start) & (place < stop)].mean(dtype=np.float64))
        bucket = {"length": longest, "from": start, "to": stop, "tokens": 2 * (stop - start), "nll": mean}
        buckets.append(bucket | {"ppl": math.exp(mean), "bits_per_byte": mean / math.log(2) / 3.5})
    columns = {
        "length": np.full(len(nll), longest, np.int32),
        "document": np.repeat(np.arange(2, dtype=np.int32), longest),
        "position": place,
        "window_position": place,
        "token": np.zeros(len(nll), np.int32),
        "bytes": np.full(len(nll), 4, np.int16),
        "nll": nll,
    }
    write_files(folder, scheme, {longest: columns}, protocol="per_position", buckets=buckets, parquet=parquet)


def write_run(root: Path, name, seed, steps=60, evaluate=True, window=True, config=None, **options) -> Path:
    """A finished run: config, environment, metrics, done, and fixed_targets with its windowed control.

    scheme_name: what the files call the scheme, if that cannot be part of a folder's name.
    """
    folder = root / f"{name}-tiny-stdlib-L{TRAIN_LENGTH}-s{seed}-{sum(map(ord, name)):04x}{seed:04x}"
    folder.mkdir(parents=True)
    scheme = options.pop("scheme_name", name)
    settings = {
        "pe": {"name": scheme, "scheme": scheme.split("_")[0]},
        "model": {"name": "tiny", "layers": 4, "width": 128},
        "data": {"name": "stdlib", "vocab_size": 2048},
        "train": {"length": TRAIN_LENGTH, "steps": steps, "batch": 32},
        "optim": {"lr": 0.003},
        "seed": seed,
        "root": str(root),
    } | (config or {})
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    last = write_metrics(folder, scheme, seed, steps)
    done = {"scheme": scheme, "parameters": 1050000, "parameters_non_embedding": 790000, "tokens": steps * 4096}
    done |= {"steps": steps, "train_length": TRAIN_LENGTH, "seed": seed, "data": "stdlib", "model": "tiny"}
    done |= last | {"tokens_per_s": 31000.0, "seconds": 42.5, "data_fingerprint": "d4e5f6a7"}
    (folder / "done").write_text(json.dumps(done))
    if evaluate:
        write_evaluation(folder, scheme, seed, **options)
    if evaluate and window:
        write_evaluation(folder, scheme, seed, extension="window", **options | {"refused": ()})
    return folder


def write_metrics(folder: Path, scheme, seed, steps) -> dict:
    """A falling loss every 10 steps, a validation row every 20; returns the last values."""
    noise = np.random.default_rng([seed, len(scheme)])
    rows, last = [], {}
    for step in range(10, steps + 1, 10):
        loss = LEVEL.get(scheme, 1.9) + 5.5 * math.exp(-step / steps * 4) + noise.normal(0, 0.03)
        shared = {"step": step, "tokens": step * 4096}
        rates = {"lr": 0.003, "grad_norm": 0.9 + noise.gamma(1) / 5, "tokens_per_s": 31000.0}
        rows.append(shared | {"loss": loss} | rates)
        if step % 20 == 0:
            last = {"valid_loss": loss + 0.1, "valid_bits_per_byte": (loss + 0.1) / math.log(2) / 3.5}
            rows.append(shared | last)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return last

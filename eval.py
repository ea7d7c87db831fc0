"""Measure a trained model at lengths it was not trained at.

    python eval.py run=runs/NAME                             the same targets after 1/2 ... 16 times the training length
    python eval.py run=runs/NAME protocol=sliding stride=32 extension=ntk

    record, table = evaluate(model, corpus, options, lengths)

The functions are pure: a model and a corpus in, a record (the JSON beside the run) and a table (a row for each scored
token) out. Every mean is over tokens; nothing is averaged twice.
"""

if __name__ == "__main__":  # ahead of the imports: refusals and --help do not wait for torch
    from configs.cli import run

    run("eval", "eval:main")

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from configs.schema import EvalConfig, EvalRunConfig
from data import windows as w
from data.corpus import Corpus
from model import parallel
from model.extension.base import extended
from model.extension.registry import extensions
from model.precision import autocast
from model.registry import Part
from model.transformer import Transformer

LN2 = math.log(2)
Row = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """One entry a scored token, ordered by document and place: parallel arrays."""

    document: np.ndarray  # number of the document in its split
    position: np.ndarray  # index of the target in its document
    window_position: np.ndarray  # index in the window of the token that predicts it; it sees that many tokens before
    token: np.ndarray
    bytes: np.ndarray  # of text that the target stands for
    nll: np.ndarray  # -ln p, float32


def evaluate(
    model: Transformer,
    corpus: Corpus,
    options: EvalConfig,
    lengths: list[int],
    extension: Part = "none",
    precision: str = "auto",
    report: Callable[[Row], None] = lambda row: None,
) -> tuple[Row, pa.Table]:
    """Score one protocol at every length: the record and the table of tokens.

    lengths: context lengths in tokens, increasing.  extension: a change of the encoding (configs/extension), made anew
    for each length.  report: called with each row as soon as it is known.
    Raises DataError when no document is long enough, ModelError when the extension does not apply to the encoding. A
    length that the encoding cannot serve (a learned table that ends) becomes a row with `refused` instead of numbers.
    """
    options = replace(options, targets=options.targets or min(64, *lengths))
    tokens, offsets = corpus.tokens(options.split), corpus.documents(options.split)
    plan = windows_for(offsets, options, lengths)
    rows, tables, buckets = [], [], []
    for length in lengths:
        network = extended(model, extension, length)
        limit = network.max_positions
        if limit is not None and length > limit:
            row: Row = {"length": length, "refused": f"this encoding has positions for {limit} tokens only"}
        else:
            scored = score(network, plan[length], tokens, offsets, corpus.tokenizer.token_bytes, options, precision)
            row = {"length": length, "windows": len(plan[length]), **summary(scored)}
            tables.append(_table(scored, length))
            if options.protocol == "per_position":
                buckets += _buckets(scored, length, model.train_length)
        rows.append(row)
        report(row)
    record = {
        "protocol": options.protocol,
        "scheme": model.config["pe"]["name"],
        "extension": label(extension),
        "train_length": model.train_length,
        "targets_hash": _hash(plan, tokens),
        "tokenizer": corpus.tokenizer.digest,
        "data": corpus.provenance["options"]["name"],
        "data_fingerprint": corpus.fingerprint,
        "split": options.split,
        "options": _protocol_options(options),
        "rows": rows,
    }
    if buckets:
        record["buckets"] = buckets
    return record, pa.concat_tables(tables) if tables else _table(_nothing(), 0)


def windows_for(offsets: np.ndarray, options: EvalConfig, lengths: list[int]) -> dict[int, w.Windows]:
    """Which tokens are fed and scored at each length, of the same documents: those that serve the longest."""
    longest, documents = max(lengths), options.documents
    match options.protocol:
        case "fixed_targets":
            return w.fixed_targets(offsets, lengths, options.targets, documents, options.blocks)
        case "nonoverlap":
            return {n: w.nonoverlap(offsets, n, documents, longest + 1) for n in lengths}
        case "sliding":
            return {n: w.sliding(offsets, n, options.stride or max(1, n // 2), documents, longest + 1) for n in lengths}
        case "last_k":
            return {n: w.last_k(offsets, n, options.k, documents, longest + 1) for n in lengths}
        case "per_position":
            return {n: w.per_position(offsets, n, documents, longest + 1) for n in lengths}
    raise AssertionError(options.protocol)


def score(
    model: Transformer,
    windows: w.Windows,
    tokens: np.ndarray,
    offsets: np.ndarray,
    token_bytes: np.ndarray,
    options: EvalConfig,
    precision: str = "auto",
) -> Scored:
    """-log p of every target of the windows. Under torchrun the ranks share the windows and all get the whole."""
    counts = windows.score_end - windows.score_start
    place = np.cumsum(counts) - counts  # where each window's targets begin in the result
    device = model.embedding.weight.device
    nll = torch.zeros(int(counts.sum()))
    was_training = model.training
    model.eval()
    for rows in w.batches(windows, options.batch_tokens, parallel.rank(), parallel.world_size()):
        inputs, targets = (torch.from_numpy(a).to(device) for a in w.gather(windows, tokens, rows))
        with autocast(precision, device):
            values = model.nll(inputs, targets)
        nll[torch.from_numpy(_ranges(place[rows], counts[rows]))] = values.cpu()
    model.train(was_training)
    parallel.sum_tensor(nll)

    owner = np.repeat(np.arange(len(windows)), counts)
    index = _ranges(windows.score_start, counts)
    token = np.asarray(tokens)[index].astype(np.int32)
    return Scored(
        windows.document[owner].astype(np.int32),
        (index - offsets[windows.document[owner]]).astype(np.int32),
        (index - 1 - windows.feed_start[owner]).astype(np.int32),
        token,
        token_bytes[token].astype(np.int16),
        nll.numpy(),
    )


def summary(scored: Scored) -> Row:
    """Token-weighted figures: nats a token, perplexity, bits a byte."""
    total, bytes_ = float(scored.nll.sum(dtype=np.float64)), int(scored.bytes.sum(dtype=np.int64))
    nll = total / len(scored.nll)
    return {
        "tokens": len(scored.nll),
        "documents": len(np.unique(scored.document)),
        "nll": nll,
        "ppl": math.exp(min(nll, 700.0)),
        "bits_per_byte": total / LN2 / bytes_ if bytes_ else None,
    }


def write(record: Row, table: pa.Table, folder: Path) -> Path:
    """The record as <protocol>[-<extension>].json in `folder`, the tokens as parquet beside it; whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    name = record["protocol"] + ("" if record["extension"] == "none" else f"-{record['extension']}")
    path, temporary = folder / f"{name}.json", folder / f".{name}.{os.getpid()}.tmp"
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path.with_suffix(".parquet"))
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(path)
    return path


def evaluate_into(
    folder: Path,
    model: Transformer,
    corpus: Corpus,
    options: EvalConfig,
    lengths: list[int],
    extension: Part,
    precision: str,
    say: Callable[[str], None],
) -> Row:
    """`evaluate`, with a line for each length and the results written into `folder` by the first rank."""
    name = options.protocol + ("" if label(extension) == "none" else f" {label(extension)}")
    clock = [time.perf_counter()]
    costs = []

    def report(row: Row) -> None:
        seconds, clock[0] = time.perf_counter() - clock[0], time.perf_counter()
        costs.append({"evaluation": name, "length": row["length"], "seconds": round(seconds, 3)})
        say(f"{name:<20} {_line(row)}  {seconds:.1f} s")

    record, table = evaluate(model, corpus, options, lengths, extension, precision, report)
    if parallel.rank() == 0:
        write(record, table, folder)
        with (folder / "costs.jsonl").open("a") as file:  # apart from the record, which is the same at every repetition
            file.writelines(json.dumps(cost) + "\n" for cost in costs)
    return record


def evaluate_with_control(
    folder: Path,
    model: Transformer,
    corpus: Corpus,
    options: EvalConfig,
    extensions: list[Part],
    precision: str,
    say: Callable[[str], None],
) -> list[Row]:
    """Every extension, and the windowed control: what the model does beyond its training length with attention limited
    to it. A scheme that does not beat its own control has shown stability, not use of a longer context."""
    lengths = options.resolved_lengths(model.train_length)
    wanted = [*extensions, *(["window"] if options.control and "window" not in extensions else [])]
    return [
        evaluate_into(folder, model, corpus, options, lengths, extension, precision, say) for extension in wanted
    ]


def main(config: EvalRunConfig) -> None:
    from data.corpus import prepare
    from data.tokenizer import Tokenizer
    from model import load

    if config.threads:
        torch.set_num_threads(config.threads)
    ranks = parallel.setup(config.device)
    say = print if ranks.first else (lambda line: None)
    assert config.run is not None  # checked with the configuration
    folder = Path(config.run)
    model = load(folder).to(ranks.device)
    corpus = prepare(_data_options(folder, config.data), tokenizer=Tokenizer.load(folder))
    extensions = config.extension if isinstance(config.extension, list) else [config.extension]
    out = Path(config.out) if config.out else folder / "eval"
    evaluate_with_control(out, model, corpus, config, extensions, config.precision, say)
    say(f"written to {out}")
    parallel.teardown()


def _data_options(run: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """The run's own data, or another corpus: then all of it is for testing, since nothing of it was trained on."""
    from omegaconf import OmegaConf

    trained = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))["data"]
    options = trained | changes
    foreign = any(options[key] != trained[key] for key in ("source", "path"))
    return options | ({"valid_fraction": 0.0, "test_fraction": 1.0} if foreign else {})


def label(extension: Part) -> str:
    """What a file and a table call an extension: its name, and the options that differ from its YAML."""
    chosen = extensions.resolve(extension)
    usual = extensions.options(chosen["name"])
    changed = [f"{key}={value}" for key, value in chosen.items() if value != usual[key]]
    return ",".join([chosen["name"], *changed]).replace("/", "_").replace(" ", "")


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each (start, count), one after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


def _table(scored: Scored, length: int) -> pa.Table:
    return pa.table({"length": np.full(len(scored.nll), length, np.int32), **vars(scored)})


def _nothing() -> Scored:
    return Scored(*(np.zeros(0, t) for t in (np.int32, np.int32, np.int32, np.int32, np.int16, np.float32)))


def _buckets(scored: Scored, length: int, train_length: int) -> list[Row]:
    """Figures of (0, L], (L, 2L], ... where L is the training length: where in the window does it break?"""
    bucket = scored.window_position // train_length
    rows = []
    for number in np.unique(bucket).tolist():
        part = Scored(*(array[bucket == number] for array in vars(scored).values()))
        limits = {"from": number * train_length, "to": min((number + 1) * train_length, length)}
        rows.append({"length": length, **limits, **summary(part)})
    return rows


def _hash(plan: dict[int, w.Windows], tokens: np.ndarray) -> str:
    """The name of the scored set; of all the sets where a protocol scores other tokens at each length."""
    hashes = list(dict.fromkeys(w.targets_hash(windows, tokens) for windows in plan.values()))
    return "+".join(hashes)


def _protocol_options(options: EvalConfig) -> Row:
    """The options that decide which tokens are fed and scored under this protocol."""
    own = {"fixed_targets": ("targets", "blocks"), "sliding": ("stride",), "last_k": ("k",)}
    return {key: getattr(options, key) for key in ("documents", *own.get(options.protocol, ()))}


def _line(row: Row) -> str:
    if "refused" in row:
        return f"length {row['length']:>6}  n/a: {row['refused']}"
    figures = f"ppl {row['ppl']:10.3f}  bits/byte {row['bits_per_byte']:6.3f}" if row["bits_per_byte"] else row["ppl"]
    return f"length {row['length']:>6}  {figures}  tokens {row['tokens']}"

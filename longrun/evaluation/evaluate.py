"""Score a model on a data set: the library behind `eval.py` and the end of a training run.

    record, table = evaluate(model, data, options, lengths)

The functions are pure: a model and a data set in, a record (the JSON beside the run) and a table (a row for each scored
token) out. Every mean is over tokens; nothing is averaged twice.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from data import windows as w
from data.dataset import Dataset
from data.tokenizers.base import Tokenizer
from longrun.base.errors import DataError
from longrun.config.schema import EvalConfig
from longrun.evaluation.protocols import base as protocols
from longrun.evaluation.results import measurement, place, require_room, write
from longrun.evaluation.token_scores import Row, Scored, nothing, summary
from model import distributed
from model.errors import ModelError
from model.extension.base import extended
from model.extension.registry import extensions
from model.generate import generate
from model.precision import autocast
from model.registry import Part
from model.transformer import Transformer


def evaluate(
    model: Transformer,
    data: Dataset,
    options: EvalConfig,
    lengths: list[int],
    extension: Part = "none",
    precision: str = "auto",
    report: Callable[[Row], None] = lambda row: None,
) -> tuple[Row, pa.Table]:
    """Score one protocol at every length: the record and the table of tokens.

    lengths: context lengths in tokens, increasing.  extension: a change of the encoding (configs/extension), made anew
    for each length.  report: called with each row as soon as it is known.
    Raises DataError when the data has nothing to measure, ModelError when the extension does not apply to the encoding.
    A length that cannot be served (a learned table that ends) becomes a row with `refused` instead of numbers.
    """
    protocol, selections = asked(data, options, lengths)
    rows, tables, parts = [], [], {}
    for length, selection in selections.items():
        network = extended(model, extension, length)
        limit = network.max_positions
        if isinstance(selection, DataError):
            row: Row = {"length": length, "refused": str(selection), "by": "data"}
        elif limit is not None and length > limit:
            why = f"this encoding has positions for {limit} tokens only"
            row = {"length": length, "refused": why, "by": "encoding"}
        else:
            scored = score(network, selection, data.tokenizer.token_bytes, options, precision)
            row = {"length": length, **protocol.facts(length), "windows": len(selection.windows), **summary(scored)}
            if options.generate and selection.answers:
                row |= protocol.judge(generated(network, selection, options, precision), selection, length)
            tables.append(_table(scored, length))
            for name, more in protocol.parts(scored, selection, length, model.train_length).items():
                parts.setdefault(name, []).extend(more)
        rows.append(row)
        report(row)
    record = {
        "protocol": protocol.label,
        "scheme": model.config["pe"]["name"],
        "extension": label(extension),
        "train_length": model.train_length,
        **measurement(data, protocol, selections),
        "rows": rows,
        **parts,
    }
    return record, pa.concat_tables(tables) if tables else _table(nothing(), 0)


def asked(
    data: Dataset, options: EvalConfig, lengths: list[int]
) -> tuple[protocols.Protocol, dict[int, w.Selection | DataError]]:
    """The protocol, and what it feeds and scores at each length."""
    protocol = protocols.create(replace(options, targets=options.targets or min(64, *lengths)))
    return protocol, protocol.select(data, lengths)


def score(
    model: Transformer, selection: w.Selection, token_bytes: np.ndarray, options: EvalConfig, precision: str = "auto"
) -> Scored:
    """-log p of every target of the windows. Under torchrun the ranks share the windows and all get the whole."""
    windows, tokens, offsets = selection.windows, selection.tokens, selection.offsets
    counts = windows.score_end - windows.score_start
    place = np.cumsum(counts) - counts  # where each window's targets begin in the result
    device = model.embedding.weight.device
    result = torch.zeros(2, int(counts.sum()))  # -ln p, and whether the target is the likeliest token
    was_training = model.training
    model.eval()
    for rows in w.batches(windows, _batch_tokens(options, device), distributed.rank(), distributed.world_size()):
        inputs, targets = (torch.from_numpy(a).to(device) for a in w.gather(windows, tokens, rows))
        with autocast(precision, device):
            values = model.nll_and_correct(inputs, targets) if selection.answers else (model.nll(inputs, targets),)
        for kind, value in enumerate(values):
            result[kind, torch.from_numpy(_ranges(place[rows], counts[rows]))] = value.float().cpu()
    model.train(was_training)
    distributed.sum_tensor(result)

    owner = np.repeat(np.arange(len(windows)), counts)
    index = _ranges(windows.score_start, counts)
    token = np.asarray(tokens)[index].astype(np.int32)
    return Scored(
        windows.document[owner].astype(np.int32),
        (index - offsets[windows.document[owner]]).astype(np.int32),
        (index - 1 - windows.feed_start[owner]).astype(np.int32),
        token,
        token_bytes[token].astype(np.int16),
        result[0].numpy(),
        result[1].numpy() > 0 if selection.answers else None,
    )


def generated(
    model: Transformer, selection: w.Selection, options: EvalConfig, precision: str = "auto"
) -> list[np.ndarray]:
    """What the model writes, greedily, in place of each window's targets: as many tokens, int64."""
    windows, device = selection.windows, model.embedding.weight.device
    written: list[np.ndarray] = [np.zeros(0, np.int64)] * len(windows)
    prompt, answer = windows.score_start - windows.feed_start, windows.score_end - windows.score_start
    for size, count in sorted(set(zip(prompt.tolist(), answer.tolist(), strict=True))):
        alike = np.flatnonzero((prompt == size) & (answer == count))
        rows = max(1, _batch_tokens(options, device) // (size + count))
        for part in np.split(alike, range(rows, len(alike), rows)):
            places = windows.feed_start[part, None] + np.arange(size)
            prompts = torch.from_numpy(np.asarray(selection.tokens)[places].astype(np.int64))
            with autocast(precision, device):
                texts = generate(model, prompts, count, temperature=0)
            for row, text in zip(part.tolist(), texts[:, size:].cpu().numpy(), strict=True):
                written[row] = text
    return written


def evaluate_into(
    folder: Path,
    model: Transformer,
    data: Dataset,
    options: EvalConfig,
    lengths: list[int],
    extension: Part,
    precision: str,
    say: Callable[[str], None],
) -> Row:
    """`evaluate`, with a line for each length and the results written into `folder` by the first rank."""
    name = protocols.create(options).label + ("" if label(extension) == "none" else f" {label(extension)}")
    clock = [time.perf_counter()]
    costs = []

    def report(row: Row) -> None:
        seconds, clock[0] = time.perf_counter() - clock[0], time.perf_counter()
        costs.append({"evaluation": name, "length": row["length"], "seconds": round(seconds, 3)})
        say(f"{name:<20} {_line(row)}  {seconds:.1f} s")

    record, table = evaluate(model, data, options, lengths, extension, precision, report)
    if distributed.rank() == 0:
        write(record, table, folder)
        with (folder / "costs.jsonl").open("a") as file:  # apart from the record, which is the same at every repetition
            file.writelines(json.dumps(cost) + "\n" for cost in costs)
    return record


def evaluate_with_control(
    folder: Path,
    model: Transformer,
    data: Dataset,
    options: EvalConfig,
    extensions: list[Part],
    precision: str,
    say: Callable[[str], None],
    replace_others: bool = False,
) -> list[Row]:
    """Every extension, and the windowed control: what the model does beyond its training length with attention limited
    to it. A scheme that does not beat its own control has shown stability, not use of a longer context.

    Of several extensions those that do not apply to the encoding are left out, with a line that says why. Raises
    DataError if results of another measurement would be replaced, unless `replace_others`.
    """
    lengths = options.resolved_lengths(model.train_length)
    fitting, refused = [], []
    for extension in extensions:
        try:
            extended(model, extension, max(lengths))
            fitting.append(extension)
        except ModelError as error:
            refused.append(error)
            say(f"left out: {error}".replace("\n", " "))
    if not fitting:
        raise refused[0]
    if options.control and "window" not in map(label, fitting):
        fitting.append("window")
    if not replace_others:
        name = protocols.create(options).label
        there = [path for path in (place(folder, name, label(each)) for each in fitting) if path.is_file()]
        if there:  # asking what is scored takes time where text has to be made up
            new = measurement(data, *asked(data, options, lengths))
            for path in there:
                require_room(path, new, lengths)
    return [evaluate_into(folder, model, data, options, lengths, extension, precision, say) for extension in fitting]


def require_tokens(model: Transformer, tokenizer: Tokenizer, folder: str | Path) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for. (A model may have more: padding.)"""
    if tokenizer.vocab_size > model.vocab_size:
        raise ModelError(
            f"{folder}: its tokenizer has {tokenizer.vocab_size} ids, and its model knows {model.vocab_size}.\n"
            "Use the tokenizer.json that belongs to the model."
        )


def _batch_tokens(options: EvalConfig, device: torch.device) -> int:
    """Tokens in one forward pass: what stays near the caches of a CPU, where more was measured to be slower."""
    return options.batch_tokens or (4096 if device.type == "cpu" else 32768)


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
    return pa.table({"length": np.full(len(scored.nll), length, np.int32), **scored.columns()})


def _line(row: Row) -> str:
    if "refused" in row:
        return f"length {row['length']:>6}  n/a: {row['refused']}"
    if "matches" in row:
        size = f"size {row['size']:>5}  " if "size" in row else ""
        return f"length {row['length']:>6}  {size}exact {row['exact']:6.1%} of {row['trials']}"
    bits = "" if row["bits_per_byte"] is None else f"  bits/byte {row['bits_per_byte']:6.3f}"
    return f"length {row['length']:>6}  ppl {row['ppl']:10.3f}{bits}  tokens {row['tokens']}"

"""Evaluate a model on a data set by a protocol: from a model and data to a record (JSON) and a table of scored tokens.

    record, table = evaluate(model, data, "sliding", lengths=[128, 512])

Nothing here changes the model, and every mean is over tokens.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.dataset import Dataset
from longrun.base.errors import DataError
from longrun.config.schema import EvalConfig
from longrun.evaluation import results
from longrun.evaluation.protocols import registry as protocols
from longrun.evaluation.protocols.base import Protocol, QuestionProtocol, Selections
from longrun.evaluation.scoring import generate_answers, score
from longrun.evaluation.token_scores import Row, TokenScores, empty, summary
from model import distributed
from model.errors import ModelError
from model.extension.base import extended
from model.extension.registry import extensions as registered_extensions
from model.registry import Part
from model.transformer import Transformer

WINDOW = "window"  # the extension that is the control: attention limited to the training length


def evaluate(
    model: Transformer,
    data: Dataset,
    protocol: Protocol | str,
    lengths: Sequence[int],
    extension: Part = "none",
    precision: str = "auto",
    **options: Any,
) -> tuple[Row, pa.Table]:
    """Score one protocol at every length: the record and the table of tokens. `Evaluation` documents the arguments.

    protocol: a protocol, or the name of one with its `options`.
    """
    chosen = protocols.create(protocol, **options) if isinstance(protocol, str) else protocol
    return Evaluation(model, data, chosen, lengths, precision).score(extension)


class Evaluation:
    """One model, one data set and one protocol, under any number of extensions.

    lengths: context lengths in tokens, increasing.
    precision: "auto", "fp32", "bf16" or "fp32_medium".
    batch_tokens: tokens per forward pass; None: what suits the device.
    Raises DataError when the data has nothing to score at any length.
    """

    def __init__(
        self,
        model: Transformer,
        data: Dataset,
        protocol: Protocol,
        lengths: Sequence[int],
        precision: str = "auto",
        batch_tokens: int | None = None,
    ):
        self.model, self.data, self.lengths = model, data, list(lengths)
        self.protocol = protocol.with_defaults(self.lengths)
        self.precision, self.batch_tokens = precision, batch_tokens
        self._networks: dict[tuple[str, int], Transformer] = {}

    @classmethod
    def from_config(cls, model: Transformer, data: Dataset, config: EvalConfig, precision: str) -> "Evaluation":
        """The evaluation that a checked configuration describes."""
        lengths = config.resolved_lengths(model.train_length)
        return cls(model, data, protocols.from_config(config), lengths, precision, config.batch_tokens)

    @cached_property
    def selections(self) -> Selections:
        """The tokens to feed and score at each length; a DataError for a length that the data cannot fill."""
        return self.protocol.select(self.data, self.lengths)

    @cached_property
    def measurement_id(self) -> Row:
        return results.measurement_id(self.data, self.protocol, self.selections)

    def score(self, extension: Part = "none", report: Callable[[Row], None] = lambda row: None) -> tuple[Row, pa.Table]:
        """Score every length: the record and the table of tokens.

        extension: a change of the encoding (configs/extension), built anew for each length.
        report: called with the row of each length.
        Raises ModelError when the extension does not apply to the encoding. A length that cannot be served (such as
        beyond the end of a learned table) becomes a row with `refused` instead of figures.
        """
        rows, tables, breakdowns = [], [], {}
        for length in self.lengths:
            row, scores, breakdown = self._score_length(extension, length)
            if scores is not None:
                tables.append(_table(scores, length))
            for name, subsets in breakdown.items():
                breakdowns.setdefault(name, []).extend(subsets)
            rows.append(row)
            report(row)
        record = {
            "protocol": self.protocol.label,
            "scheme": self.model.config["pe"]["name"],
            "extension": extension_label(extension),
            "train_length": self.model.train_length,
            **self.measurement_id,
            "rows": rows,
            **breakdowns,
        }
        return record, pa.concat_tables(tables) if tables else _table(empty(), 0)

    def write(
        self,
        folder: Path,
        extensions: Iterable[Part],
        say: Callable[[str], None],
        window_control: bool,
        replace_others: bool = False,
    ) -> list[Row]:
        """Score every extension and write the results into `folder`; returns the records.

        say: called with a line per result.
        window_control: also score with attention limited to the training length. A scheme that does not beat its own
        control has shown stability, not use of a longer context.
        Of several extensions those that do not apply to the encoding are left out, with a line that gives the reason.
        Raises DataError if results of another measurement would be replaced, unless `replace_others`.
        """
        applicable = self._applicable(extensions, say)
        if window_control and WINDOW not in map(extension_label, applicable):
            applicable.append(WINDOW)
        if not replace_others:
            for extension in applicable:
                path = results.result_path(folder, self.protocol.label, extension_label(extension))
                if path.is_file():
                    results.refuse_overwrite(path, self.measurement_id, self.lengths)
        return [self._write_one(folder, extension, say) for extension in applicable]

    def _applicable(self, extensions: Iterable[Part], say: Callable[[str], None]) -> list[Part]:
        """The extensions that apply to the encoding. Raises ModelError if none does."""
        applicable, errors = [], []
        for extension in extensions:
            try:
                self._network(extension, max(self.lengths))
                applicable.append(extension)
            except ModelError as error:
                errors.append(error)
                say(f"left out: {error}".replace("\n", " "))
        if not applicable:
            raise errors[0]
        return applicable

    def _network(self, extension: Part, length: int) -> Transformer:
        """The extended model for one length, built once."""
        key = (extension_label(extension), length)
        if key not in self._networks:
            self._networks[key] = extended(self.model, extension, length)
        return self._networks[key]

    def _score_length(self, extension: Part, length: int) -> tuple[Row, TokenScores | None, dict[str, list[Row]]]:
        """The row of one length, the scores of its tokens (None if refused) and the figures of subsets of them."""
        selection, network = self.selections[length], self._network(extension, length)
        del self._networks[extension_label(extension), length]  # its tables may be large
        limit = network.max_positions
        if isinstance(selection, DataError):
            return {"length": length, "refused": str(selection), "by": "data"}, None, {}
        if limit is not None and length > limit:
            reason = f"this encoding has positions for {limit} tokens only"
            return {"length": length, "refused": reason, "by": "encoding"}, None, {}
        tokenizer, protocol = self.data.tokenizer, self.protocol
        scores = score(network, selection, tokenizer.token_bytes, self.batch_tokens, self.precision)
        row = {"length": length, **protocol.length_facts(selection), "windows": len(selection.windows)}
        row |= summary(scores)
        if isinstance(protocol, QuestionProtocol) and protocol.generate:
            answers = generate_answers(network, selection, self.batch_tokens, self.precision)
            row |= protocol.score_generation(answers, selection, tokenizer)
        return row, scores, protocol.breakdown(scores, selection, length, self.model.train_length)

    def _write_one(self, folder: Path, extension: Part, say: Callable[[str], None]) -> Row:
        """Score one extension, with a line per length; the first rank writes the results into `folder`."""
        label = extension_label(extension)
        name = self.protocol.label + ("" if label == "none" else f" {label}")
        clock, costs = time.perf_counter(), []

        def report(row: Row) -> None:
            nonlocal clock
            seconds, clock = time.perf_counter() - clock, time.perf_counter()
            costs.append({"evaluation": name, "length": row["length"], "seconds": round(seconds, 3)})
            say(f"{name:<20} {_line(row)}  {seconds:.1f} s")

        record, table = self.score(extension, report)
        if distributed.rank() == 0:
            results.write(record, table, folder)
            with (folder / "costs.jsonl").open("a") as file:  # not in the record, which every repetition reproduces
                file.writelines(json.dumps(cost) + "\n" for cost in costs)
        return record


def extension_label(extension: Part) -> str:
    """The name of an extension in files and tables: its name, and the options that differ from its YAML."""
    resolved = registered_extensions.resolve(extension)
    defaults = registered_extensions.options(resolved["name"])
    changed = [f"{key}={value}" for key, value in resolved.items() if value != defaults[key]]
    return ",".join([resolved["name"], *changed]).replace("/", "_").replace(" ", "")


def _table(scores: TokenScores, length: int) -> pa.Table:
    return pa.table({"length": np.full(len(scores.nll), length, np.int32), **scores.columns()})


def _line(row: Row) -> str:
    if "refused" in row:
        return f"length {row['length']:>6}  n/a: {row['refused']}"
    if "matches" in row:
        size = f"size {row['size']:>5}  " if "size" in row else ""
        return f"length {row['length']:>6}  {size}exact {row['exact']:6.1%} of {row['trials']}"
    bits = "" if row["bits_per_byte"] is None else f"  bits/byte {row['bits_per_byte']:6.3f}"
    return f"length {row['length']:>6}  ppl {row['ppl']:10.3f}{bits}  tokens {row['tokens']}"

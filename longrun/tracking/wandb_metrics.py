"""An evaluation as plain values for a dashboard: points of curves, columns of the table of runs, a table."""

import math
from typing import Any

Row = dict[str, Any]

USABLE = 1.1  # a length is usable while its perplexity is at most this multiple of the one at the training length
MULTIPLES = (1, 2, 4, 16)  # of the training length, each with a column
COLUMNS = ("protocol", "extension", "length", "tokens", "nll", "ppl", "bits_per_byte", "exact")


def name(record: Row) -> str:
    """The prefix of an evaluation's curves: its protocol and extension, unless they are the defaults.

    Different measurements therefore have different curves.
    """
    defaults = (("protocol", "fixed_targets"), ("extension", "none"))
    return "/".join(record[key] for key, value in defaults if record[key] != value)


def curve_point(record: Row, row: Row) -> Row:
    """One length of one curve: `extrapolation/ppl`, and `extrapolation/window/ppl` for the windowed control."""
    prefix = "/".join(filter(None, ["extrapolation", name(record)]))
    keys = [key for key in ("ppl", "nll", "bits_per_byte", "exact") if row.get(key) is not None]
    return {"extrapolation/length": row["length"]} | {f"{prefix}/{key}": row[key] for key in keys}


def summary_columns(record: Row) -> Row:
    """`ppl@1x`, `ppl@4x`, ..., `ppl@4x/ppl@1x` and `usable_length`, or `exact@1x`, ... for tasks."""
    train_length, rows = record["train_length"], {row["length"]: row for row in record["rows"] if "refused" not in row}
    key = "exact" if any("exact" in row for row in rows.values()) else "ppl"
    values = {f"{key}@{n}x": rows[n * train_length][key] for n in MULTIPLES if key in rows.get(n * train_length, ())}
    if key == "ppl" and "ppl@1x" in values:
        if "ppl@4x" in values:
            values["ppl@4x/ppl@1x"] = values["ppl@4x"] / values["ppl@1x"]
        gaps = {
            length: row["nll"] - rows[train_length]["nll"] for length, row in rows.items() if length >= train_length
        }
        values["usable_length"] = usable_length(gaps)
    return {"/".join(filter(None, [name(record), column])): value for column, value in values.items()}


def usable_length(gaps: dict[int, float]) -> int | None:
    """The largest length with ppl <= 1.1 ppl(training length). gaps: NLL minus that at the training length, in nats."""
    return max((length for length, gap in gaps.items() if gap <= math.log(USABLE)), default=None)


def table_rows(records: list[Row]) -> list[list[Any]]:
    """The values under COLUMNS, one list per row of a record."""
    rows = [record | row for record in records for row in record["rows"]]
    return [[row.get(column) for column in COLUMNS] for row in rows]

"""What a dashboard shows of an evaluation: points of curves, columns of the table of runs, a table. Plain values."""

import math
from typing import Any

Row = dict[str, Any]

USABLE = 1.1  # a length is usable while its perplexity is at most this multiple of the one at the training length
MULTIPLES = (1, 2, 4, 16)  # of the training length that are columns
COLUMNS = ("protocol", "extension", "length", "tokens", "nll", "ppl", "bits_per_byte", "exact")


def name(record: Row) -> str:
    """What a dashboard calls an evaluation: its protocol and extension, unless they are the usual ones.

    So no two meanings share a curve.
    """
    usual = (("protocol", "fixed_targets"), ("extension", "none"))
    return "/".join(record[key] for key, value in usual if record[key] != value)


def point(record: Row, row: Row) -> Row:
    """One length of one curve: `extrapolation/ppl`, and `extrapolation/window/ppl` for the windowed control."""
    prefix = "/".join(filter(None, ["extrapolation", name(record)]))
    known = [key for key in ("ppl", "nll", "bits_per_byte", "exact") if row.get(key) is not None]
    return {"extrapolation/length": row["length"]} | {f"{prefix}/{key}": row[key] for key in known}


def columns(record: Row) -> Row:
    """`ppl@1x`, `ppl@4x`, ..., `ppl@4x/ppl@1x` and `usable_length`, or `exact@1x`, ... where answers are counted."""
    home, rows = record["train_length"], {row["length"]: row for row in record["rows"] if "refused" not in row}
    key = "exact" if any("exact" in row for row in rows.values()) else "ppl"
    found = {f"{key}@{n}x": rows[n * home][key] for n in MULTIPLES if key in rows.get(n * home, ())}
    if key == "ppl" and "ppl@1x" in found:
        if "ppl@4x" in found:
            found["ppl@4x/ppl@1x"] = found["ppl@4x"] / found["ppl@1x"]
        gaps = {length: row["nll"] - rows[home]["nll"] for length, row in rows.items() if length >= home}
        found["usable_length"] = usable(gaps)
    return {"/".join(filter(None, [name(record), column])): value for column, value in found.items()}


def usable(gaps: dict[int, float]) -> int | None:
    """The largest length with ppl <= 1.1 ppl(training length). gaps: NLL minus that at the training length, in nats."""
    return max((length for length, gap in gaps.items() if gap <= math.log(USABLE)), default=None)


def cells(records: list[Row]) -> list[list[Any]]:
    """Every row of every record under COLUMNS."""
    rows = [record | row for record in records for row in record["rows"]]
    return [[row.get(column) for column in COLUMNS] for row in rows]

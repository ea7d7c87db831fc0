"""The performance targets of the project with the measured values: (quantity, target, measured, hit or missed)."""

from collections.abc import Callable, Iterator
from typing import Any

from longrun.bench.timing import Shape

Run = dict[str, Any]
TargetRow = tuple[str, str, str, str]
# Families whose logits are a dot product plus a function of the positions; other families may cost more.
FUSED = ("Rotations of queries and keys", "Biases on the logits")
FAR = 16384


def targets(runs: list[Run]) -> list[TargetRow]:
    return [row for target in TARGETS for row in target(runs)]


def verdict(good: bool) -> str:
    return "hit" if good else "**missed**"


def of_part(runs: list[Run], part: str) -> list[Run]:
    return [run for run in runs if run["part"] == part]


def fastest_peer(runs: list[Run]) -> Iterator[TargetRow]:
    for run in of_part(runs, "training"):
        others = [row for row in run["rows"] if row["kind"] == "peer"]
        if not others:
            continue
        best = max(others, key=lambda row: row["tokens_per_s"])
        ours = max((row for row in run["rows"] if row["kind"] == "scheme"), key=lambda row: row["tokens_per_s"])
        rope = next((row for row in run["rows"] if row["name"] == "rope"), ours)
        ratio = rope["tokens_per_s"] / best["tokens_per_s"]
        what = f"training tokens/s of {rope['name']} against the best other library, {_how(run)}"
        yield what, ">= 1.4", f"{ratio:.2f} ({best['name']})", verdict(ratio >= 1.4)


def schemes_in_training(runs: list[Run]) -> Iterator[TargetRow]:
    for run in of_part(runs, "training"):
        rows = [row for row in run["rows"] if row["family"] in FUSED and not row["content"]]
        if rows:
            what = f"relative-bias and rotary schemes against NoPE, training, {_how(run)}"
            yield what, ">= 0.9", *_worst(rows, "name", "of_nope", 0.9)


def memory(runs: list[Run]) -> Iterator[TargetRow]:
    for run in of_part(runs, "evaluation"):
        rows = [row for row in run["rows"] if row["length"] == FAR and "refused" not in row]
        if not rows:
            continue
        most = max(rows, key=lambda row: row["peak_mib"])
        within = [row for row in rows if row["peak_mib"] <= 600]
        measured = f"{most['peak_mib']:,.0f} MiB ({most['scheme']}); {len(within)} of {len(rows)} schemes within"
        what = f"evaluation at T={FAR:,}, {run['settings']['precision']}: peak memory over the model, any scheme"
        yield what, "<= 600 MiB", measured, verdict(len(within) == len(rows))


def far_from_nope(runs: list[Run]) -> Iterator[TargetRow]:
    for run in of_part(runs, "evaluation"):
        rows = [row for row in run["rows"] if row["length"] == FAR and "of_nope" in row]
        biased = [row for row in rows if row["family"] == "Biases on the logits" and not row["content"]]
        if biased:
            what = f"evaluation at T={FAR:,}, {run['settings']['precision']}: biased schemes against NoPE"
            yield what, ">= 0.7", *_worst(biased, "scheme", "of_nope", 0.7)


def sliding(runs: list[Run]) -> Iterator[TargetRow]:
    for run in of_part(runs, "protocols"):
        worst = min(run["sliding"], key=lambda row: row["speed_up"])
        measured = ", ".join(f"{row['speed_up']:.2f} at a stride of {row['stride']:g} T" for row in run["sliding"])
        how = f"d={run['settings']['shape']['width']} T={worst['length']}, {run['settings']['precision']}"
        what = f"`sliding` against every window with all its logits, {how}"
        yield what, ">= 2", measured, verdict(worst["speed_up"] >= 2)


def loading(runs: list[Run]) -> Iterator[TargetRow]:
    for run in of_part(runs, "data"):
        share = run["share"]
        measured = f"{share:.2%} (made on demand {run['share_on_demand']:.2%})"
        yield f"waiting for data, share of a step, {_how(run)}", "<= 1 %", measured, verdict(share <= 0.01)


def unmeasured(runs: list[Run]) -> Iterator[TargetRow]:
    """Targets without any measurement, listed as open."""
    if not any(
        row["length"] == FAR and "refused" not in row for run in of_part(runs, "evaluation") for row in run["rows"]
    ):
        yield f"evaluation at T={FAR:,}: peak memory over the model, any scheme", "<= 600 MiB", "not measured", "open"
        yield f"evaluation at T={FAR:,}: biased schemes against NoPE", ">= 0.7", "not measured", "open"


def gpu(runs: list[Run]) -> Iterator[TargetRow]:
    if all("NVIDIA" not in run["machine"]["device"] for run in runs):
        yield "GPU: MFU at 124 M, T=1024, bf16, compiled", ">= 0.5", "not measured", "open"
        yield "GPU: every scheme's tokens/s against NoPE", ">= 0.9", "not measured", "open"


TARGETS: tuple[Callable[[list[Run]], Iterator[TargetRow]], ...] = (
    fastest_peer,
    schemes_in_training,
    memory,
    far_from_nope,
    sliding,
    loading,
    unmeasured,
    gpu,
)


def _worst(rows: list[Run], name: str, key: str, least: float) -> tuple[str, str]:
    worst = min(rows, key=lambda row: row[key])
    good = sum(row[key] >= least for row in rows)
    return f"{worst[key]:.2f} ({worst[name]}); {good} of {len(rows)} reach it", verdict(good == len(rows))


def _how(run: Run) -> str:
    settings = run["settings"]
    shape = Shape(**settings["shape"])
    words = [f"d={shape.width} T={shape.length}", settings.get("precision", "")]
    if run["part"] == "training":
        words.append("compiled" if settings["compile"] else "eager")
    return ", ".join(filter(None, words))

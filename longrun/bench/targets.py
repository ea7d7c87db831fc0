"""The targets of the project and what was measured of each: (what, target, measured, hit or missed)."""

from collections.abc import Callable, Iterator

from longrun.bench.timing import Shape

Run = dict
Line = tuple[str, str, str, str]
# Families whose logits are a dot product plus a function of the positions; the rest is allowed to cost more.
FUSED = ("Rotations of queries and keys", "Biases on the logits")
FAR = 16384


def targets(runs: list[Run]) -> list[Line]:
    return [line for target in TARGETS for line in target(runs)]


def verdict(good: bool) -> str:
    return "hit" if good else "**missed**"


def of(runs: list[Run], part: str) -> list[Run]:
    return [run for run in runs if run["part"] == part]


def fastest_peer(runs: list[Run]) -> Iterator[Line]:
    for run in of(runs, "training"):
        others = [row for row in run["rows"] if row["kind"] == "peer"]
        if not others:
            continue
        best = max(others, key=lambda row: row["tokens_per_s"])
        ours = max((row for row in run["rows"] if row["kind"] == "scheme"), key=lambda row: row["tokens_per_s"])
        rope = next((row for row in run["rows"] if row["name"] == "rope"), ours)
        ratio = rope["tokens_per_s"] / best["tokens_per_s"]
        what = f"training tokens/s of {rope['name']} against the best other library, {_how(run)}"
        yield what, ">= 1.4", f"{ratio:.2f} ({best['name']})", verdict(ratio >= 1.4)


def schemes_in_training(runs: list[Run]) -> Iterator[Line]:
    for run in of(runs, "training"):
        rows = [row for row in run["rows"] if row["family"] in FUSED and not row["content"]]
        if rows:
            what = f"relative-bias and rotary schemes against NoPE, training, {_how(run)}"
            yield what, ">= 0.9", *_worst(rows, "name", "of_nope", 0.9)


def memory(runs: list[Run]) -> Iterator[Line]:
    for run in of(runs, "evaluation"):
        rows = [row for row in run["rows"] if row["length"] == FAR and "refused" not in row]
        if not rows:
            continue
        most = max(rows, key=lambda row: row["peak_mib"])
        within = [row for row in rows if row["peak_mib"] <= 600]
        said = f"{most['peak_mib']:,.0f} MiB ({most['scheme']}); {len(within)} of {len(rows)} schemes within"
        what = f"evaluation at T={FAR:,}, {run['settings']['precision']}: peak memory over the model, any scheme"
        yield what, "<= 600 MiB", said, verdict(len(within) == len(rows))


def far_from_nope(runs: list[Run]) -> Iterator[Line]:
    for run in of(runs, "evaluation"):
        rows = [row for row in run["rows"] if row["length"] == FAR and "of_nope" in row]
        biased = [row for row in rows if row["family"] == "Biases on the logits" and not row["content"]]
        if biased:
            what = f"evaluation at T={FAR:,}, {run['settings']['precision']}: biased schemes against NoPE"
            yield what, ">= 0.7", *_worst(biased, "scheme", "of_nope", 0.7)


def sliding(runs: list[Run]) -> Iterator[Line]:
    for run in of(runs, "protocols"):
        worst = min(run["sliding"], key=lambda row: row["speed_up"])
        said = ", ".join(f"{row['speed_up']:.2f} at a stride of {row['stride']:g} T" for row in run["sliding"])
        how = f"d={run['settings']['shape']['width']} T={worst['length']}, {run['settings']['precision']}"
        what = f"`sliding` against every window with all its logits, {how}"
        yield what, ">= 2", said, verdict(worst["speed_up"] >= 2)


def loading(runs: list[Run]) -> Iterator[Line]:
    for run in of(runs, "data"):
        share = run["share"]
        said = f"{share:.2%} (made on demand {run['share_on_demand']:.2%})"
        yield f"waiting for data, share of a step, {_how(run)}", "<= 1 %", said, verdict(share <= 0.01)


def unmeasured(runs: list[Run]) -> Iterator[Line]:
    """What no run says anything about is said to be open, and not left out."""
    if not any(row["length"] == FAR and "refused" not in row for run in of(runs, "evaluation") for row in run["rows"]):
        yield f"evaluation at T={FAR:,}: peak memory over the model, any scheme", "<= 600 MiB", "not measured", "open"
        yield f"evaluation at T={FAR:,}: biased schemes against NoPE", ">= 0.7", "not measured", "open"


def gpu(runs: list[Run]) -> Iterator[Line]:
    if all("NVIDIA" not in run["machine"]["device"] for run in runs):
        yield "GPU: MFU at 124 M, T=1024, bf16, compiled", ">= 0.5", "not measured", "open"
        yield "GPU: every scheme's tokens/s against NoPE", ">= 0.9", "not measured", "open"


TARGETS: tuple[Callable[[list[Run]], Iterator[Line]], ...] = (
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

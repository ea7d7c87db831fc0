"""docs/benchmarks.md from the file of results. Only the block between the markers is generated."""

from collections.abc import Callable, Iterable
from pathlib import Path

from longrun.bench.targets import of_part, targets
from longrun.bench.timing import Shape
from longrun.doc_blocks import update_blocks

Run = dict


def write(path: Path, runs: list[Run]) -> None:
    """Update the block between the markers. Raises ConfigError if there are none."""
    update_blocks(path, {"benchmarks": lambda: page(runs)}, noun="figures")


def page(runs: list[Run]) -> str:
    lines = [*machines(runs), "", "## Targets", "", *table(["target", "", "measured", ""], targets(runs), "l")]
    for part, title, render in PARTS:
        selected = of_part(runs, part)
        if selected:
            lines += ["", f"## {title}", ""]
            for run in selected:
                lines += [*render(run), ""]
            lines.pop()
    return "\n".join(lines)


def machines(runs: list[Run]) -> list[str]:
    """One line per machine and set of versions."""
    lines: dict[str, list[str]] = {}
    for run in runs:
        machine = run["machine"]
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items() if number)
        native = "native bf16" if machine["native_bf16"] else "no native bf16"
        where = f"{machine['device']}, {machine['cores']} cores, {native}; Python {machine['python']}, {packages}"
        lines.setdefault(where, []).append(run["date"])
    return [f"* {where}; {' to '.join(sorted({min(dates), max(dates)}))}" for where, dates in lines.items()]


def table(head: list[str], rows: Iterable[tuple], align: str = "r") -> list[str]:
    """Markdown; the first column is text, the others are numbers (or text, with align="l")."""
    rule = "|---|" + ("---:|" if align == "r" else "---|") * (len(head) - 1)
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def training(run: Run) -> list[str]:
    settings = run["settings"]
    kind = "compiled" if settings["compile"] else "eager"
    update = "with" if settings["optimizer"] else "without"
    rows = [
        (
            f"`{row['name']}`" if row["kind"] == "scheme" else row["name"], f"{row['tokens_per_s']:,.0f}",
            f"± {row['spread']:.0%}", f"{row['of_nope']:.2f}", f"{row['of_ceiling']:.0%}",
        )
        for row in run["rows"]
    ]  # fmt: skip
    return [
        f"**{Shape(**settings['shape'])}; {settings['precision']}, {kind}**, {update} the optimizer's update, "
        f"{run['machine']['threads']} threads, {run['rounds']} rounds; ceiling {run['ceiling_gflops']:.0f} GFLOP/s.",
        "",
        *table(["", "tokens/s", "spread", "of NoPE", "of the ceiling"], rows),
        *[f"\nLeft out: {'; '.join(run['left_out'])}." for _ in run["left_out"][:1]],
    ]


def evaluation(run: Run) -> list[str]:
    """One row per scheme: tokens/s, its ratio to NoPE, and MiB at each length."""
    settings = run["settings"]
    lengths = sorted({row["length"] for row in run["rows"]})
    cells = {(row["scheme"], row["length"]): _evaluated(row) for row in run["rows"]}
    schemes = dict.fromkeys(row["scheme"] for row in run["rows"])
    rows = [(f"`{name}`", *(cells.get((name, length), "") for length in lengths)) for name in schemes]
    return [
        f"**One sequence, {settings['model']['layers']} layers, width {settings['model']['width']}; "
        f"{settings['precision']}**, {run['machine']['threads']} threads: tokens/s (as a share of NoPE's in the same "
        "process), peak memory over the model.",
        "",
        *table(["", *(f"T={length:,}" for length in lengths)], rows),
    ]


def _evaluated(row: Run) -> str:
    if "refused" in row:
        return "n/a" if "slow" not in row["refused"] else "too slow"
    speed = f"{row['tokens_per_s']:,.0f} ({row['of_nope']:.2f}), " if "of_nope" in row else ""
    return f"{speed}{row['peak_mib']:,.0f} MiB"


def protocols(run: Run) -> list[str]:
    rows = [
        (
            f"`{row['protocol']}`", f"{row['windows']:,}", f"{row['fed']:,}", f"{row['scored']:,}",
            f"{row['seconds']:.2f}", f"{row['fed'] / row['seconds']:,.0f}", f"{row['peak_mib']:,.0f} MiB",
        )
        for row in run["rows"]
    ]  # fmt: skip
    sliding = [
        (
            f"{row['length']:,}", f"{row['stride']:g} T", f"{row['seconds']:.2f}", f"{row['usual_seconds']:.2f}",
            f"{row['speed_up']:.2f}",
        )
        for row in run["sliding"]
    ]  # fmt: skip
    settings = run["settings"]
    far = f"{settings['far']} training lengths, {settings['far'] * settings['shape']['length']:,} tokens"
    return [
        f"**`{settings['scheme']}`, {Shape(**settings['shape'])}; {settings['precision']}**, "
        f"{run['machine']['threads']} threads; windows of {far}; peak memory over the model.",
        "",
        *table(["", "windows", "tokens fed", "scored", "seconds", "fed/s", "peak"], rows),
        "",
        *table(["`sliding`, T", "stride", "seconds", "the usual way", "times as fast"], sliding),
    ]


def generation(run: Run) -> list[str]:
    rows = [
        (f"`{row['scheme']}`", f"{row['prompt']:,}", "n/a", "", "")
        if "refused" in row
        else (
            f"`{row['scheme']}`", f"{row['prompt']:,}", f"{row['tokens_per_s']:,.0f}", f"{row['of_nope']:.2f}",
            f"{row['prompt_seconds'] * 1000:,.0f}",
        )
        for row in run["rows"]
    ]  # fmt: skip
    shape = Shape(**run["settings"]["shape"])
    return [
        f"**{shape.batch} sequences at a time, {shape.layers} layers, width {shape.width}; "
        f"{run['settings']['precision']}**, {run['machine']['threads']} threads, "
        f"{run['settings']['new_tokens']} new tokens.",
        "",
        *table(["", "prompt", "tokens/s", "of NoPE", "reading the prompt, ms"], rows),
    ]


def data(run: Run) -> list[str]:
    return [
        f"* A BPE of {run['settings']['vocabulary']:,} pieces is trained on {run['megabytes']:.1f} MB in "
        f"{run['bpe_training_seconds']:.1f} s; text is encoded at {run['encoding_mb_per_s']:.1f} MB/s, "
        f"{run['machine']['threads']} threads.",
        f"* A batch ({Shape(**run['settings']['shape'])}) is made in {run['batch_seconds'] * 1e6:,.0f} us, "
        f"{run['share_on_demand']:.2%} of a step; one made in the background is waited for "
        f"{run['wait_seconds'] * 1e6:,.0f} us, {run['share']:.2%}.",
    ]


PARTS: tuple[tuple[str, str, Callable[[Run], list[str]]], ...] = (
    ("training", "Training step", training),
    ("evaluation", "Evaluation of one long sequence", evaluation),
    ("protocols", "Protocols", protocols),
    ("generation", "Generation", generation),
    ("data", "Data", data),
)

"""python -m scripts.claims [--run] [--set cpu|gpu]: published claims against our own numbers.

Reads the finished runs of configs/experiment, prints what they say about each claim, and renews docs/results.md. With
--run the runs that are missing are made first; stopped and started again (--minutes), it goes on where it was.
"""

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from longrun.base.errors import DataError
from longrun.base.paths import ROOT
from longrun.claims.evidence import Evidence, Experiment, experiments, home
from longrun.claims.rules import RULES, Finding
from longrun.config.cli import guarded
from longrun.doc_blocks import between, renew

SIZES = {
    "cpu": "Models of 0.1 to 0.5 million parameters, 35 minutes on two cores.",
    "gpu": "Models of 5 to 12 million parameters, a few hours on one GPU.",
}
GRACE = 60  # seconds to save in, when the time is over


@dataclass(frozen=True)
class Result:
    experiment: Experiment
    finding: Finding | None
    missing: str  # why there is no finding
    seeds: int

    @property
    def verdict(self) -> str:
        return self.finding.verdict if self.finding else "not run"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    chosen = [each for each in experiments() if not options.only or each.name in options.only]
    if options.run:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the sweep must not stay behind
        code = run(chosen, options.set, options.root, options.minutes)
        if code:
            print(
                "stopped: the same command goes on" if code == 130 else "some runs failed: see above", file=sys.stderr
            )
    results = [result(each, options.set, options.root) for each in chosen]
    print("\n".join(map(told, results)))
    if any(each.finding for each in results):
        write(options.out, options.set, table([result(each, options.set, options.root) for each in experiments()]))
        print(f"\n{options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.claims", description="Published claims, and our numbers.")
    parser.add_argument("--run", action="store_true", help="make the runs that are missing")
    parser.add_argument("--set", choices=SIZES, default="cpu", help="how large the runs are")
    parser.add_argument("--only", nargs="+", choices=sorted(RULES), metavar="NAME", help=", ".join(sorted(RULES)))
    parser.add_argument("--minutes", type=float, help="stop the runs after so long; the next call goes on")
    parser.add_argument("--root", type=Path, help="folder of the runs, instead of runs/claims")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.md", help="the file to renew")
    return parser


def run(chosen: list[Experiment], size: str, root: Path | None, minutes: float | None) -> int:
    """One sweep after the other. Exit code: 0, 130 when the time was over, else that of the last failure."""
    deadline = time.monotonic() + 60 * minutes if minutes else None
    failed = 0
    for each in chosen:
        process = subprocess.Popen(command(each, size, root), cwd=ROOT)
        try:
            code = process.wait(None if deadline is None else max(0.1, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.send_signal(signal.SIGTERM)  # the sweep hands it on, and its jobs save
            process.wait(GRACE)
            return 130
        failed = code or failed
    return failed


def command(experiment: Experiment, size: str, root: Path | None) -> list[str]:
    scale = experiment.scale_for(size)
    where = [] if root is None else [f"root={home(scale, root.resolve())}"]
    return [sys.executable, "train.py", "-m", f"experiment={experiment.name}", f"scale={scale}", *where]


def result(experiment: Experiment, size: str, root: Path | None) -> Result:
    evidence = Evidence(home(experiment.scale_for(size), root or ROOT / "runs" / "claims"), experiment)
    try:
        finding, missing = RULES[experiment.name](evidence), ""
    except DataError as error:
        finding, missing = None, str(error).splitlines()[0]
    return Result(experiment, finding, missing, len(evidence.seeds))


def told(each: Result) -> str:
    """For the terminal."""
    lines = [f"\n{each.verdict.upper():<10} {each.experiment.claim}", f"  published  {each.experiment.source}"]
    if each.finding is None:
        return "\n".join([*lines, f"  ours       {each.missing}"])
    numbers = "\n             ".join(each.finding.numbers)
    return "\n".join(
        [*lines, f"  agrees if  {each.experiment.agrees}", f"  ours       {numbers}", f"  seeds      {each.seeds}"]
    )


def table(results: list[Result]) -> str:
    """For docs/results.md."""
    rows = [
        "| claim | published | ours | seeds | verdict |",
        "|:--|:--|:--|--:|:--|",
    ]
    for each in results:
        ours = "<br>".join(each.finding.numbers) if each.finding else "–"
        cells = (f"{each.experiment.claim} (`{each.experiment.name}`)", each.experiment.source, ours)
        rows.append(f"| {' | '.join(cells)} | {each.seeds or '–'} | **{each.verdict}** |")
    rules = "\n".join(f"* `{each.experiment.name}` agrees if {each.experiment.agrees}." for each in results)
    return "\n".join([*rows, "", rules])


def write(path: Path, size: str, text: str) -> None:
    """Renew the part of a file between the markers of this set, which is added at the end if there is none."""
    part = f"claims {size}"
    before = path.read_text(encoding="utf-8") if path.exists() else "# Published claims, and our numbers\n"
    if not between(part).search(before):
        path.parent.mkdir(parents=True, exist_ok=True)
        place = f"<!-- {part}: start -->\n<!-- {part}: end -->"
        path.write_text(f"{before}\n## On the {size.upper()}\n\n{place}\n", encoding="utf-8")
    renew(path, {part: lambda: f"{SIZES[size]}\n\n{text}"})


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))

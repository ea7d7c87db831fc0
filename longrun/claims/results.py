"""Results of the claims: for the terminal, and as the blocks of docs/results.md."""

from dataclasses import dataclass
from pathlib import Path

from longrun.base.errors import DataError
from longrun.base.paths import ROOT
from longrun.claims.evidence import Evidence, Experiment, runs_folder
from longrun.claims.rules import RULES, Finding
from longrun.doc_blocks import block_pattern, update_blocks

SIZES = {
    "cpu": "Models of 0.1 to 0.5 million parameters, 35 minutes on two cores.",
    "gpu": "Models of 5 to 12 million parameters, a few hours on one GPU.",
}


@dataclass(frozen=True)
class ClaimResult:
    """`missing`: reason why there is no finding."""

    experiment: Experiment
    finding: Finding | None
    missing: str
    seeds: int

    @property
    def verdict(self) -> str:
        return self.finding.verdict if self.finding else "not run"


def claim_result(experiment: Experiment, size: str, root: Path | None) -> ClaimResult:
    """Apply the rule of an experiment to its finished runs."""
    folder = runs_folder(experiment.scale_for(size), root or ROOT / "runs" / "claims")
    evidence = Evidence(folder, experiment)
    try:
        finding, missing = RULES[experiment.name](evidence), ""
    except DataError as error:
        finding, missing = None, str(error).splitlines()[0]
    return ClaimResult(experiment, finding, missing, len(evidence.seeds))


def format_result(result: ClaimResult) -> str:
    """Several lines for the terminal."""
    experiment = result.experiment
    lines = [f"\n{result.verdict.upper():<10} {experiment.claim}", f"  published  {experiment.source}"]
    if result.finding is None:
        return "\n".join([*lines, f"  ours       {result.missing}"])
    numbers = "\n             ".join(result.finding.numbers)
    lines += [f"  agrees if  {experiment.agrees}", f"  ours       {numbers}", f"  seeds      {result.seeds}"]
    return "\n".join(lines)


def table(results: list[ClaimResult]) -> str:
    """Markdown: one row per claim, then the rules."""
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


def update_page(path: Path, size: str, results: list[ClaimResult]) -> None:
    """Update the block of this size in a page; a page without one gets it at the end."""
    block = f"claims {size}"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Published claims, and our numbers\n"
    if not block_pattern(block).search(text):
        path.parent.mkdir(parents=True, exist_ok=True)
        markers = f"<!-- {block}: start -->\n<!-- {block}: end -->"
        path.write_text(f"{text}\n## On the {size.upper()}\n\n{markers}\n", encoding="utf-8")
    update_blocks(path, {block: lambda: f"{SIZES[size]}\n\n{table(results)}"})

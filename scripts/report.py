"""python -m scripts.report <root or run folders> [--out FOLDER]: report.html, report.md, report.json and figures/.

Reads run folders, refuses what cannot be compared, and writes nothing else than the four. Exit code 2 with a message
for what the user can repair.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from longrun.base.errors import DataError
from longrun.base.files import atomic_write
from longrun.config.cli import guarded
from longrun.report import accuracy as answers
from longrun.report import tables
from longrun.report.captions import figures_of
from longrun.report.comparability import caveats, check_comparable
from longrun.report.findings import findings, headline
from longrun.report.html import page
from longrun.report.load import Run, read_runs
from longrun.report.markdown import markdown
from longrun.report.payload import payload
from longrun.report.provenance import commands, facts
from longrun.report.series import Line, variants_of
from longrun.report.study import Study, colours, studies_of


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    written = report(options.paths, folder_of(options.paths, options.out))
    print("\n".join(map(str, written)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.report",
        description="Compare evaluated runs: report.html (one file, works offline), report.md, report.json, figures.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER", help="the root of your runs, or run folders")
    parser.add_argument("--out", type=Path, help="where to write (default: the root; their common parent for several)")
    return parser


def folder_of(paths: list[Path], out: Path | None) -> Path:
    """--out, else the one folder given, else the parent that all given folders share directly."""
    if out is None:
        parents = {path.resolve().parent for path in paths}
        if len(paths) > 1 and len(parents) > 1:
            raise DataError("the given folders lie in different places: say where to write with --out FOLDER")
        out = paths[0] if len(paths) == 1 else paths[0].parent
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out} is a file; give a folder (it is created if it does not exist)")
    return out


def report(paths: list[Path], out: Path) -> list[Path]:
    """Read, check, compute, write; returns the written files. DataError for what the user can repair."""
    return write(out, *compose(paths, out))


def write(out: Path, name: str, content: dict, data: dict) -> list[Path]:
    """The files of what `compose` returned. DataError if they cannot be written."""
    from longrun.report.figures import write_figures  # matplotlib takes a second: a wrong argument is answered before

    try:
        write_figures(data, out / "figures")
        return [
            atomic_write(out / "report.json", report_json(content, data)),
            atomic_write(out / "report.md", markdown(name, content)),
            atomic_write(out / "report.html", page(name, content, data)),
        ]
    except OSError as error:
        raise DataError(f"--out {out} cannot be written: {error.strerror or error}") from error


def compose(paths: list[Path], out: Path) -> tuple[str, dict, dict]:
    """The report's name, its words and tables (see report_markdown), and its numbers (see report_payload)."""
    runs = read_runs(paths)
    check_comparable(runs)
    studies, exams = studies_of(runs), answers.exams_of(runs)
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} runs"
    data = payload(name, runs, studies, exams, _colours(runs, studies, exams))
    content = {
        "headline": headline(studies[0]) if studies else answers.headline(exams),
        "findings": findings(studies[0]) if studies else [],
        "caveats": (caveats(runs, studies[0].lines) if studies else []) + answers.caveats(exams),
        "figures": figures_of(data),
        "studies": [(study.protocol, _tables(study)) for study in studies],
        "answers": answers.tables(exams),
        "facts": facts(runs, studies),
        "commands": commands(runs, studies, "python -m scripts.report " + shlex.join(map(str, [*paths, "--out", out]))),
    }
    return name, content, data


def report_json(content: dict, data: dict) -> str:
    sentences = {key: content[key] for key in ("headline", "findings", "caveats")}
    return json.dumps(sentences | data, indent=1, allow_nan=False, ensure_ascii=False)


def _tables(study: Study) -> list[tables.Table]:
    return [tables.summary(study), *tables.by_length(study), tables.pairs(study), tables.cost(study)]


def _colours(runs: list[Run], studies: list[Study], exams: list[answers.Exam]) -> dict[str, int]:
    """Numbers for the lines of every study and exam, then for runs that only have training curves."""
    found = colours(studies)
    for label in sorted({line.label for exam in exams for line in exam.lines}):
        found.setdefault(label, len(found))
    variants = variants_of(runs)
    for run in runs:
        found.setdefault(Line(run.scheme, "none", variants[run.folder], "").label, len(found))
    return found


if __name__ == "__main__":
    sys.exit(guarded(main))

"""Writing a report: report.html, report.md, report.json and figures/."""

from pathlib import Path

from longrun.base.errors import DataError
from longrun.base.files import atomic_write
from longrun.report.compose import Report, compose
from longrun.report.html import page
from longrun.report.markdown import markdown


def output_folder(paths: list[Path], out: Path | None) -> Path:
    """`out`, else the only path, else the common parent of all paths.

    Raises DataError if there is no common parent or if the folder is a file.
    """
    if out is None:
        parents = {path.resolve().parent for path in paths}
        if len(paths) > 1 and len(parents) > 1:
            raise DataError("the given folders lie in different places.\nGive the output folder with --out FOLDER")
        out = paths[0] if len(paths) == 1 else paths[0].parent
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out} is a file; give a folder (it is created if it does not exist)")
    return out


def report(paths: list[Path], out: Path) -> list[Path]:
    """Compare the runs under `paths` and write the report to `out`; returns the written files, without the figures."""
    return write(compose(paths, out), out)


def write(content: Report, out: Path) -> list[Path]:
    """Write all files. Raises DataError if `out` cannot be written."""
    from longrun.report.figures import write_figures  # importing matplotlib takes a second

    texts = {"report.json": content.json(), "report.md": markdown(content), "report.html": page(content)}
    try:
        write_figures(content.figures, out / "figures")
        for name, text in texts.items():
            atomic_write(out / name, text)
    except OSError as error:
        raise DataError(f"--out {out} cannot be written: {error.strerror or error}") from error
    return [out / name for name in texts]

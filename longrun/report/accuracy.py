"""Right answers: tasks by length, needles by length and depth, and the ranking of schemes over tasks.

A point pools the questions of all seeds; its interval is Wilson's, which takes them as independent. The ranking's
interval resamples seeds and questions.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from longrun.report import number_format as fmt
from longrun.report.bootstrap import mean_reciprocal_rank, wilson
from longrun.report.load import Evaluation, Run
from longrun.report.series import Line, variants_of
from longrun.report.tables import INTERVAL, Cell, Table

TASK = "exact_match"


@dataclass(frozen=True)
class Count:
    matches: int
    trials: int

    @property
    def share(self) -> float:
        return self.matches / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.matches, self.trials)


@dataclass
class AnswerLine:
    """A scheme under one setting and extension. points: by length; cells: by (length, depth), of needles alone."""

    label: str
    seeds: list[int] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    points: dict[int, Count] = field(default_factory=dict)
    cells: dict[tuple[int, float], Count] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)


@dataclass
class Exam:
    """The lines that were asked the same questions."""

    protocol: str
    data: str
    train_length: int
    lines: list[AnswerLine] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.data if self.protocol == TASK else self.protocol

    @property
    def lengths(self) -> list[int]:
        return sorted({n for line in self.lines for n in (*line.points, *line.refused)})


def exams_of(runs: list[Run]) -> list[Exam]:
    """Tasks first, each with the line that is right most often beyond the training length on top."""
    variants = variants_of(runs)
    exams: dict[tuple, Exam] = {}
    lines: dict[tuple, AnswerLine] = {}
    for run in runs:
        variant = tuple((key, value) for key, value in variants[run.folder] if not key.startswith("data."))
        for each in run.answers:
            key = (each.protocol, each.record.get("data", ""), each.record["targets_hash"], each.train_length)
            exam = exams.setdefault(key, Exam(each.protocol, str(each.record.get("data", "")), each.train_length))
            label = Line(run.scheme, each.extension, variant, each.protocol).label
            if (key, label) not in lines:
                lines[key, label] = AnswerLine(label)
                exam.lines.append(lines[key, label])
            _add(lines[key, label], run.seed, each)
    for exam in exams.values():
        exam.lines.sort(key=lambda line, exam=exam: (-_beyond_share(line, exam.train_length), line.label))
    return sorted(exams.values(), key=lambda exam: (exam.protocol != TASK, exam.protocol, exam.data))


def _add(line: AnswerLine, seed: int, evaluation: Evaluation) -> None:
    line.seeds.append(seed)
    line.evaluations.append(evaluation)
    line.refused |= evaluation.refused
    for length, row in evaluation.rows.items():
        line.points[length] = _more(line.points.get(length), row)
    for cell in evaluation.record.get("cells", []):
        place = cell["length"], cell["depth"]
        line.cells[place] = _more(line.cells.get(place), cell)


def _more(count: Count | None, row: dict) -> Count:
    known = count or Count(0, 0)
    return Count(known.matches + row["matches"], known.trials + row["trials"])


def _beyond_share(line: AnswerLine, train_length: int) -> float:
    counts = [count for length, count in line.points.items() if length > train_length] or list(line.points.values())
    return sum(count.matches for count in counts) / max(1, sum(count.trials for count in counts))


def tables(exams: list[Exam]) -> list[Table]:
    """The ranking over tasks, a table for each exam, and for needles a heat map for each line."""
    found = [table for table in [ranking([exam for exam in exams if exam.protocol == TASK])] if table.rows]
    for exam in exams:
        found.append(by_length(exam))
        found += [heat_map(exam, line) for line in exam.lines if line.cells]
    return found


def by_length(exam: Exam) -> Table:
    heads = [f"{n:,} ({fmt.ratio(n, exam.train_length)})" for n in exam.lengths]
    table = Table(f"answers-{exam.name}", f"Right answers: {exam.name}", _note(exam), ["scheme", "seeds", *heads])
    for line in exam.lines:
        cells = [_cell(line, n, exam) for n in exam.lengths]
        table.rows.append([Cell(line.label), Cell(str(len(line.seeds))), *cells])
        table.keys.append(line.label)
    return table


def _note(exam: Exam) -> str:
    trials = sorted({count.trials for line in exam.lines for count in line.points.values()})
    many = f"{trials[0]:,}" if trials[0] == trials[-1] else f"{trials[0]:,} to {trials[-1]:,}"
    what = "Questions of the largest size that fits into so many tokens" if exam.protocol == TASK else "Needles in text"
    return (
        f"{what}: share of those whose whole answer is the likeliest text, {many} at each length over all seeds; "
        f"small: Wilson's {INTERVAL}; bold: the highest of a column. Trained at {exam.train_length:,} tokens."
    )


def _cell(line: AnswerLine, length: int, exam: Exam) -> Cell:
    count = line.points.get(length)
    if count is None:
        return Cell("n/a", title=line.refused.get(length, "not evaluated"))
    best = max(other.points[length].share for other in exam.lines if length in other.points)
    strong = count.share == best > 0 and len(exam.lines) > 1
    return Cell(fmt.share(count.share), _bounds(count), strong=strong, depth=count.share)


def _bounds(count: Count) -> str:
    low, high = count.interval
    return f"[{100 * low:.0f}, {100 * high:.0f}]"


def heat_map(exam: Exam, line: AnswerLine) -> Table:
    lengths, depths = (sorted({place[i] for place in line.cells}) for i in (0, 1))
    count = next(iter(line.cells.values()))
    note = (
        f"Right answers by depth and length, {count.trials} trials a cell over all seeds; small: Wilson's {INTERVAL}."
    )
    name = f"heat-{exam.name}-{line.label}"
    table = Table(name, f"{exam.name}: {line.label}", note, ["depth", *(f"{n:,}" for n in lengths)])
    for depth in depths:
        found = [line.cells.get((n, depth)) for n in lengths]
        cells = [Cell(fmt.share(c.share), _bounds(c), depth=c.share) if c else Cell("n/a") for c in found]
        table.rows.append([Cell(fmt.share(depth)), *cells])
    return table


def ranking(exams: list[Exam]) -> Table:
    """Mean reciprocal rank over the tasks, of the lines that have all of them; empty without two such lines."""
    counted = [{line.label: line for line in exam.lines} for exam in exams]
    labels = [label for label in counted[0] if all(label in each for each in counted)] if counted else []
    columns = ["scheme", "mean reciprocal rank", INTERVAL, "first", *(exam.name for exam in exams)]
    note = (
        f"On each task the schemes are ranked by their share of right answers beyond the training length, which stands "
        f"in its column; 1 / rank is averaged over {fmt.plural(len(exams), 'task')}, ties share the mean of their "
        f"ranks. {INTERVAL} and share of resamples in which a scheme is first: seeds and questions resampled."
    )
    table = Table("ranking", "Ranking over tasks", note, columns)
    stacked = [_matches([each[label] for label in labels]) for each in counted]
    if len(labels) < 2 or any(each is None for each in stacked):
        return table
    ranked = mean_reciprocal_rank([each for each in stacked if each is not None])
    for label, place in sorted(zip(labels, ranked, strict=True), key=lambda item: (-item[1].mrr, item[0])):
        shares = [_beyond_share(each[label], exam.train_length) for each, exam in zip(counted, exams, strict=True)]
        cells = [Cell(f"{place.mrr:.2f}"), Cell(f"[{place.low:.2f}, {place.high:.2f}]"), Cell(fmt.share(place.first))]
        table.rows.append([Cell(label), *cells, *(Cell(fmt.share(share), depth=share) for share in shares)])
        table.keys.append(label)
    return table


def _matches(lines: list[AnswerLine]) -> np.ndarray | None:
    """Right answers beyond the training length (lines, seeds, questions), for the seeds that all lines have."""
    by_line = [dict(zip(line.seeds, line.evaluations, strict=True)) for line in lines]
    seeds = sorted(set.intersection(*map(set, by_line))) if by_line else []
    rows = [[beyond(each[seed]) for seed in seeds] for each in by_line]
    sizes = {len(answers) for row in rows for answers in row}
    return np.array(rows) if len(sizes) == 1 and sizes != {0} else None


def caveats(exams: list[Exam]) -> list[str]:
    few = defaultdict(list)
    for exam in exams:
        for line in exam.lines:
            if len(line.seeds) < 3:
                few[len(line.seeds)].append(f"{line.label} on {exam.name}")
    return [
        f"{fmt.plural(seeds, 'seed')} of {names[0]}{' and others' if names[1:] else ''}: "
        "a claim about a scheme needs at least 3."
        for seeds, names in few.items()
    ]


def headline(exams: list[Exam]) -> str:
    """For a report without perplexities."""
    names = fmt.listing([exam.name for exam in exams])
    schemes = len({line.label for exam in exams for line in exam.lines})
    return f"{fmt.plural(schemes, 'scheme')} on {names}: right answers beyond the training length"


def beyond(evaluation: Evaluation) -> np.ndarray:
    """Right answers at lengths beyond the training length (Q,), shortest first. Those the encoding has no positions
    for are wrong; those that the task has no questions for are not there."""
    right, trained = evaluation.questions, evaluation.train_length
    trials = max((len(each) for each in right.values()), default=0)
    parts = []
    for row in sorted(evaluation.record["rows"], key=lambda row: row["length"]):
        if row["length"] > trained and row.get("by") != "data":
            parts.append(right.get(row["length"], np.zeros(trials, bool)))
    return np.concatenate(parts) if parts else np.zeros(0, bool)

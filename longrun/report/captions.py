"""Names and captions of the report's figures; page, Markdown and files share them."""

from dataclasses import dataclass

from longrun.report import number_format as fmt

NAMES = {"ppl": "perplexity", "bpb": "bits per byte", "gap": "gap: NLL − NLL at training length (nats per token)"}
FILES = {"ppl": "perplexity", "bpb": "bits_per_byte", "gap": "gap"}
TRAINING_CAPTION = (
    "One line per run. Training rows are averaged in equal groups of logged rows; validation bits per byte as logged. "
    "The first tenth of the training may lie above the frame."
)


@dataclass(frozen=True)
class Figure:
    """`stem` is the file's name in figures/ without .png or .svg; study and metric say what a length figure shows."""

    stem: str
    title: str
    caption: str
    study: int = 0
    metric: str = ""


def figures_of(payload: dict) -> list[Figure]:
    """Every figure that has data, in reading order."""
    found = []
    for index, study in enumerate(payload["studies"]):
        suffix = "" if index == 0 else f"_{study['protocol']}"
        for metric in study["metrics"]:
            title = f"{NAMES[metric].split(':')[0].capitalize()} against evaluation length"
            found.append(Figure(FILES[metric] + suffix, title, length_caption(study, metric), index, metric))
    if payload["positions"]:
        caption = position_caption(payload["positions"])
        found.append(Figure("nll_by_position", "NLL by position in the window", caption))
    found += _answer_figures(payload["answers"])
    if payload["training"]:
        found.append(Figure("training", "Training curves", TRAINING_CAPTION))
    return found


def _answer_figures(exams: list[dict]) -> list[Figure]:
    found = []
    if any(exam["protocol"] == "exact_match" for exam in exams):
        caption = "Share of questions with the right answer. Line: all seeds pooled; band: Wilson's 95 % interval."
        found.append(Figure("exact_match", "Right answers against length", caption))
    for exam in exams:
        if any(line["cells"] for line in exam["lines"]):
            caption = "Share of trials with the right answer, in per cent, by depth of what is hidden and by length."
            found.append(Figure(exam["name"], f"Retrieval: {exam['name']}", caption))
    return found


def length_caption(study: dict, metric: str) -> str:
    """What the figure shows and on how much data."""
    seeds = max(len(line["seeds"]) for line in study["lines"])
    parts = [study["scope"][0].upper() + study["scope"][1:] + "."]
    if seeds > 1:
        parts.append("Line: tokens of all seeds pooled; band: lowest to highest seed.")
    if any(line["control"] for line in study["lines"]):
        parts.append("Dashed: the windowed control, the same checkpoint attending to the last training length of keys.")
    if study["detail"][metric] is not None:
        parts.append("The right panel enlarges the lower end of the left one.")
    refused = [f"{each['label']} from {each['refused'][0]['length']:,}" for each in study["lines"] if each["refused"]]
    if refused:
        parts.append(f"n/a (the scheme cannot be evaluated there): {', '.join(refused)}.")
    return " ".join(parts)


def position_caption(positions: dict) -> str:
    return (
        f"Protocol per_position: all {positions['tokens']:,} tokens of {fmt.plural(positions['windows'], 'window')} of "
        f"{positions['length']:,} tokens from {fmt.plural(positions['documents'], 'document')}, averaged over bins of "
        "positions (token-weighted). Band: lowest to highest seed."
    )

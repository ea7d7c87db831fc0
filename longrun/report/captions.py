"""Names of metrics and captions of figures, shared by the page, report.md and the files in figures/."""

from longrun.report import number_format as fmt

NAMES = {"ppl": "perplexity", "bpb": "bits per byte", "gap": "NLL − NLL at training length (nats per token)"}
SHORT_NAMES = {"ppl": "perplexity", "bpb": "bits/byte", "gap": "gap"}
FILES = {"ppl": "perplexity", "bpb": "bits_per_byte", "gap": "gap"}
TRAINING_CAPTION = (
    "One line per run. Training rows are averaged in equal groups of logged rows; validation bits per byte as logged. "
    "The first tenth of the training may lie above the frame."
)
ACCURACY_CAPTION = "Share of questions answered correctly. Line: all seeds pooled; band: Wilson's 95 % interval."
NEEDLE_CAPTION = "Share of trials answered correctly, in per cent, by depth of the hidden text and by length."


def length_caption(results: dict, metric: str) -> str:
    """Protocol, sample size and elements of a figure over evaluation length. results: one study of the payload."""
    seeds = max(len(line["seeds"]) for line in results["lines"])
    parts = [fmt.sentence(results["scope"]) + "."]
    if seeds > 1:
        parts.append("Line: tokens of all seeds pooled; band: lowest to highest seed.")
    if any(line["control"] for line in results["lines"]):
        parts.append("Dashed: the windowed control, the same checkpoint attending to the last training length of keys.")
    if results["detail"][metric] is not None:
        parts.append("The right panel enlarges the lower end of the left one.")
    refused = [f"{each['label']} from {each['refused'][0]['length']:,}" for each in results["lines"] if each["refused"]]
    if refused:
        parts.append(f"n/a (the scheme cannot be evaluated there): {', '.join(refused)}.")
    return " ".join(parts)


def position_caption(positions: dict) -> str:
    return (
        f"Protocol per_position: all {positions['tokens']:,} tokens of {fmt.plural(positions['windows'], 'window')} of "
        f"{positions['length']:,} tokens from {fmt.plural(positions['documents'], 'document')}, averaged over bins of "
        "positions (token-weighted). Band: lowest to highest seed."
    )

"""Learning-rate schedules: the factor on the peak learning rate as a function of the step."""

import math

from model.errors import ModelError


def schedule(
    step: int,
    steps: int,
    warmup: int = 0,
    kind: str = "cosine",
    min_lr_ratio: float = 0.1,
    decay_fraction: float = 0.2,
) -> float:
    """The factor on the learning rate at `step` (0-based) of `steps`: in (0, 1].

    The rate climbs linearly over the first `warmup` steps, is 1 at step `warmup`, and then
    "cosine"    falls on half a cosine to `min_lr_ratio` at step `steps` (arXiv 1608.03983)
    "wsd"       stays at 1 and falls linearly to `min_lr_ratio` over the last `decay_fraction` of the steps
                (arXiv 2404.06395)
    "constant"  stays at 1; `min_lr_ratio` is not used
    Raises ModelError for an unknown kind or a number outside of its range.
    """
    if kind not in KINDS:
        raise ModelError(f"optim.schedule={kind}: unknown. Known: {', '.join(KINDS)}.")
    if not 0 <= warmup <= steps:
        raise ModelError(f"warmup={warmup}: must lie between 0 and the number of steps, {steps}.")
    if not (0 <= min_lr_ratio <= 1 and 0 <= decay_fraction <= 1):
        raise ModelError(
            f"min_lr_ratio={min_lr_ratio}, decay_fraction={decay_fraction}: both must lie between 0 and 1."
        )
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return KINDS[kind](min(step, steps), steps, warmup, min_lr_ratio, decay_fraction)


def _cosine(step: int, steps: int, warmup: int, floor: float, decay_fraction: float) -> float:
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _wsd(step: int, steps: int, warmup: int, floor: float, decay_fraction: float) -> float:
    start = max(warmup, steps - round(decay_fraction * steps))
    if step <= start:
        return 1.0
    return 1 - (1 - floor) * (step - start) / (steps - start)


def _constant(step: int, steps: int, warmup: int, floor: float, decay_fraction: float) -> float:
    return 1.0


KINDS = {"cosine": _cosine, "wsd": _wsd, "constant": _constant}

"""Evaluation of a trained model beyond its training length.

from longrun.evaluation import evaluate, load_run

model, data = load_run("runs/NAME")
record, table = evaluate(model, data, "sliding", lengths=[128, 512])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longrun.evaluation.evaluation import Evaluation, evaluate
    from longrun.evaluation.load import load_checkpoint, load_run

__all__ = ["Evaluation", "evaluate", "load_checkpoint", "load_run"]


def __getattr__(name: str) -> Any:
    """Import torch at the first use only: the command line reads the protocols below before it."""
    if name in ("Evaluation", "evaluate"):
        from longrun.evaluation import evaluation as module
    elif name in ("load_checkpoint", "load_run"):
        from longrun.evaluation import load as module
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)

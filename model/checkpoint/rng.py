"""The state of the random number generators that training draws from, as tensors, so that no pickle is needed."""

import random

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError


def rng_state() -> dict[str, Tensor]:
    """State of torch's CPU generator, the current CUDA device's, numpy's global one and Python's. Fixed sizes."""
    version, words, gauss = random.getstate()
    key = np.random.get_state(legacy=False)  # noqa: NPY002 (other libraries draw from the global generator)
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor([version, *words]),
        "python_gauss": torch.tensor(float("nan") if gauss is None else gauss, dtype=torch.float64),
        "numpy": torch.tensor([*key["state"]["key"].tolist(), key["state"]["pos"], key["has_gauss"]]),
        "numpy_gauss": torch.tensor(key["gauss"], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Tensor]) -> None:
    """Restore the result of `rng_state`. A CUDA state is ignored on a machine without CUDA.

    Raises ModelError if a state is missing or malformed.
    """
    try:
        version, *words = state["python"].tolist()
        gauss = state["python_gauss"].item()
        *key, position, has_gauss = state["numpy"].tolist()
        random.setstate((version, tuple(words), None if np.isnan(gauss) else gauss))
        np.random.set_state(  # noqa: NPY002
            ("MT19937", np.array(key, dtype=np.uint32), position, has_gauss, state["numpy_gauss"].item())
        )
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available() and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"])
    except KeyError as error:
        raise ModelError(f"random state: {error} is missing; it has {sorted(state)}.") from error
    except (TypeError, ValueError, RuntimeError, OverflowError, IndexError) as error:
        raise ModelError(f"random state: this torch or this numpy cannot restore it ({error}).") from error

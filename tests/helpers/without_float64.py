"""Every encoding, plan and extension on a pretended device that has no float64, as Apple's GPUs have none.

    python tests/helpers/without_float64.py          a line each: its name, and "ok" or what went wrong

torch follows shapes, types and devices there and computes nothing. What needs numbers to go on (which keys a block may
leave out) ends the pursuit, and is said.
"""

import sys
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from model import build, precision
from model.extension.base import extended
from model.pe.registry import names
from model.positions.registry import plans
from model.transformer import Transformer

DEVICE = "pretended"
EXTENSIONS = {
    "rope": ("yarn", "longrope", "dynamic_ntk", "llama3", "leaky_rerope", "self_extend", "logn", "temperature"),
    "learned": ("table_interpolation",),
    "t5": ("t5_rescale",),
    "alibi_learned": ("alibi_rescale",),
}
NEEDS = {"segments": {"delimiters": [3, 7]}, "digits": {"digits": [1, 2, 3, 4]}}


class Backend:
    """What torch asks of a device's module."""

    is_available = is_initialized = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    manual_seed_all = staticmethod(lambda seed: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16])


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor) and each.device.type == DEVICE and each.dtype == torch.float64:
                raise TypeError(f"{func} makes float64")
        return out


def pursued(model: Transformer, length: int) -> str:
    """What happens to a batch of (2, length) tokens on the device."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    there = torch.empty(parameter.shape, dtype=parameter.dtype, device=DEVICE)
                    module._parameters[name] = torch.nn.Parameter(there)
        tokens = torch.zeros(2, length, dtype=torch.int64, device=DEVICE)
        try:
            with NoFloat64():
                where = model(tokens, generator=torch.Generator().manual_seed(0)).device.type
        except (DynamicOutputShapeException, DataDependentOutputException) as error:
            return f"ok as far as {error.args[0]}"
        except NotImplementedError as error:
            return "ok as far as a constant" if "aten::empty_strided" in str(error) else f"{error}"
        except Exception as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "ok" if where == DEVICE else f"ends on {where}"


def main() -> None:
    _setup_privateuseone_for_python_backend(DEVICE, Backend)
    precision.WITHOUT_FLOAT64.add(DEVICE)
    sizes = {"layers": 4, "width": 32, "heads": 4}
    for name in names():
        model = build(97, 16, sizes, name)
        print(f"pe={name}", pursued(model, min(24, model.max_positions or 24)))
    for name in plans.names():
        options = {"name": name} | NEEDS.get(name, {})
        two = name in ("generated_block", "segments", "digits")  # numbers a token
        model = build(97, 16, sizes, "rope_2d" if two else "rope", options)
        for training in (True, False):
            print(f"positions={name}", pursued(model.train(training), 16))
    for pe, several in EXTENSIONS.items():
        for name in several:
            print(f"extension={name}", pursued(extended(build(97, 16, sizes, pe).eval(), name, 48), 48))


if __name__ == "__main__":
    main()

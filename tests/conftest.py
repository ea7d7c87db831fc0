import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

TARGET = "target(ours, theirs, what, limit=1e-5): a row of docs/conformance.md, see scripts/dev/conformance.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", choices=("check", "write"), default="check", help="write: rewrite tests/golden/*.json")
    parser.addoption("--quick", action="store_true", help="one scheme of each kind instead of all")
    parser.addoption("--released", metavar="FOLDER", help="folder of clones of papers' code, for the tests that run it")


# With --quick, of the tests that run for every encoding, plan or extension, those of one of each kind.
REPRESENTATIVES = {
    *("nope", "sinusoidal", "learned", "rope", "alibi", "fox", "window", "rerope", "ssmax", "bipe", "irope"),
    *("contiguous", "randomised", "segments"),
    *("none", "yarn", "dynamic_ntk", "t5_rescale"),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("quick"):
        return
    groups = Path(__file__).resolve().parent.parent / "configs"
    names = {path.stem for group in ("pe", "positions", "extension") for path in (groups / group).glob("*.yaml")}
    left_out = [item for item in items if parameters(item) & (names - REPRESENTATIVES)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def parameters(item: pytest.Item) -> set[str]:
    """The strings that a test is parametrised with; an extension `+name` as `name`."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {value.removeprefix("+") for value in values if isinstance(value, str)}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", TARGET)


@pytest.fixture(autouse=True)
def same_arithmetic() -> None:
    """Every test starts single-threaded, in true float32, whatever a test before it has set."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def agree(request: pytest.FixtureRequest, record_property: Callable) -> Callable:
    """agree(ours, theirs): the largest difference is within the limit of the test's mark `target`, and on record.

    relative: in units of theirs, for frequencies and slopes, which differ by orders of magnitude. Tensors that are not
    floating point, and limits of 0, ask for equality.
    """
    mark = request.node.get_closest_marker("target")
    limit = mark.kwargs.get("limit", 1e-5)

    def check(ours: Tensor, theirs: Tensor, relative: bool = False) -> None:
        assert ours.shape == theirs.shape, "compared without broadcasting, which can hide a missing dimension"
        a, b = ours.detach().double(), theirs.detach().double()
        apart = torch.where(a == b, 0, (a - b).abs() / (b.abs() if relative else 1))  # infinite ones may be equal
        largest = apart.max().item()
        record_property("difference", largest if math.isfinite(largest) else math.inf)
        assert largest <= limit, f"{mark.args[0]} and {mark.args[1]} differ by {largest:.2g}"

    return check

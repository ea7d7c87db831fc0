import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", choices=("check", "write"), default="check", help="write: rewrite tests/golden/*.json")


@pytest.fixture(autouse=True)
def same_arithmetic() -> None:
    """Every test starts single-threaded, in true float32, whatever a test before it has set."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")

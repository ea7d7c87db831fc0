"""Every mistake of tests/mutants.yaml is noticed by a test that knows the formula. `make stress` tries them all."""

from pathlib import Path

import pytest

from scripts.dev.mutations import Mutant, Outcome, copy, mutants

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = mutants()
every_mistake = pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.mistake for mutant in MUTANTS])


@every_mistake
def test_the_mistake_can_still_be_made(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    changed = mutant.applied(source)
    assert changed != source
    compile(changed, mutant.file, "exec")
    assert all((ROOT / "tests" / name).is_file() for name in mutant.tests)


def test_every_mistake_is_tried_once_and_is_in_the_table() -> None:
    names = [mutant.mistake for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    page = (ROOT / "docs" / "conformance.md").read_text()
    assert [name for name in names if f"| {name} |" not in page] == []
    assert "not noticed" not in page


def test_what_nobody_notices_is_said() -> None:
    assert Outcome(MUTANTS[0], [], 0, 1.0).markdown() == f"| {MUTANTS[0].mistake} | 0 | **not noticed** |"


@pytest.mark.stress
@pytest.mark.timeout(900)
@every_mistake
def test_the_mistake_is_noticed(mutant: Mutant) -> None:
    with copy() as run:
        assert run(mutant).count > 0

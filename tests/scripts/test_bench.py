"""The benchmark: every part at a tiny shape, what the figures are made of, and the page that is rendered from them."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from longrun.base.errors import ConfigError
from longrun.bench import page as bench_page
from longrun.bench import results as bench_results
from longrun.bench import targets
from longrun.bench.baselines import PEERS, available, cross_entropy
from longrun.bench.evaluation import RETURN_FREED_MEMORY
from longrun.bench.protocols import MEASURED, Protocols, _ours, _usual, selected
from longrun.bench.timing import SHAPES, Shape, ceiling, flops_per_token, interleaved, medians, spread
from longrun.bench.training import Training, by_content, models, step
from longrun.doc_blocks import block_pattern
from longrun.evaluation.protocols import registry as protocols
from model import build
from scripts import bench

ROOT = Path(__file__).resolve().parents[2]
CPU, TINY = torch.device("cpu"), SHAPES["tiny"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The runs of the real command, all parts."""
    file = tmp_path_factory.mktemp("bench") / "results.json"
    words = ["--shape", "tiny", "--rounds", "1", "--threads", "1", "--precision", "fp32", "--json", str(file)]
    others = ",".join(part for part in bench.PARTS if part != "evaluation")
    assert bench.main([*words, "--part", "evaluation", "--schemes", "t5", "--lengths", "64,96"]) == 0
    assert bench.main([*words, "--part", others, "--schemes", "t5,cope"]) == 0
    return json.loads(file.read_text())["runs"]


def numbers(value) -> list[float]:
    if isinstance(value, dict):
        return [x for inner in value.values() for x in numbers(inner)]
    if isinstance(value, list):
        return [x for inner in value for x in numbers(inner)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_every_part_gives_positive_figures(results: list[dict]):
    assert {run["part"] for run in results} == set(bench.PARTS)
    for run in results:
        assert all(math.isfinite(x) and x >= 0 for x in numbers(run))
        rows = run.get("rows", [run])
        rates = [row[key] for row in rows for key in ("tokens_per_s", "seconds", "step_seconds") if key in row]
        assert rates
        assert min(rates) > 0


def test_ratios_are_those_of_the_figures_beside_them(results: list[dict]):
    (training,) = (run for run in results if run["part"] == "training")
    rates = {row["name"]: row["tokens_per_s"] for row in training["rows"]}
    assert {"nope", "t5", "cope", *available()[0]} == rates.keys()
    for row in training["rows"]:
        assert row["of_nope"] == pytest.approx(row["tokens_per_s"] / rates["nope"], rel=2e-3)
    (protocols,) = (run for run in results if run["part"] == "protocols")
    for row in protocols["sliding"]:
        assert row["speed_up"] == pytest.approx(row["usual_seconds"] / row["seconds"], rel=2e-3)
    assert {row["name"]: row["content"] for row in training["rows"] if row["kind"] == "scheme"} == {
        "nope": False, "t5": False, "cope": True
    }  # fmt: skip


def test_the_page_shows_what_was_measured(results: list[dict], tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks: start -->\nold\n<!-- benchmarks: end -->\nby hand\n")
    bench_page.write(page, results)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("by hand\n")
    assert "old" not in text
    rates = {row["name"]: row["tokens_per_s"] for run in results if run["part"] == "training" for row in run["rows"]}
    assert f"| `t5` | {rates['t5']:,.0f} |" in text
    bench_page.write(page, results)
    assert page.read_text() == text  # again, and nothing has moved
    page.write_text("no place")
    with pytest.raises(ConfigError, match="no place for the figures"):
        bench_page.write(page, results)


def test_the_page_in_the_repository_is_that_of_its_results():
    runs = json.loads((ROOT / "docs" / "benchmarks.json").read_text())["runs"]
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert (
        block_pattern("benchmarks").search(text)[0].split("\n", 1)[1]
        == f"{bench_page.page(runs)}\n<!-- benchmarks: end -->"
    )


def training_run(rates: dict[str, float]) -> dict:
    rows = [
        {"name": name, "kind": "peer" if "GPT" in name else "scheme", "tokens_per_s": rate, "content": name == "cope",
         "family": {"nope": "Nothing", "rope": "Rotations of queries and keys", "t5": "Biases on the logits",
                    "cope": "Biases on the logits"}.get(name), "of_nope": rate / rates["nope"]}
        for name, rate in rates.items()
    ]  # fmt: skip
    settings = {"shape": vars(TINY), "precision": "fp32", "compile": False}
    return {"part": "training", "settings": settings, "rows": rows, "machine": {"device": "a CPU"}}


def test_targets_are_judged_by_the_worst():
    run = training_run({"nope": 100.0, "rope": 98.0, "t5": 91.0, "cope": 10.0, "GPT": 65.0, "slow GPT": 50.0})
    peer, ours = targets.targets([run])[:2]
    assert peer[2:] == ("1.51 (GPT)", "hit")
    assert ours[2:] == ("0.91 (t5); 2 of 2 reach it", "hit")  # what depends on content may cost more
    run = training_run({"nope": 100.0, "rope": 98.0, "t5": 89.0, "GPT": 71.0})
    peer, ours = targets.targets([run])[:2]
    assert peer[2:] == ("1.38 (GPT)", "**missed**")
    assert ours[2:] == ("0.89 (t5); 1 of 2 reach it", "**missed**")


def test_a_run_takes_the_place_of_the_same_one_and_leaves_others():
    where = {"device": "a CPU", "cores": 2, "threads": 1}
    results = bench_results.Results([])
    results.add("training", where, {"settings": {"precision": "fp32"}, "rows": [1]})
    results.add("training", where, {"settings": {"precision": "bf16"}, "rows": [2]})
    results.add("training", where, {"settings": {"precision": "fp32"}, "rows": [3]})
    assert [run["rows"] for run in results.runs] == [[2], [3]]
    for scheme, rate in (("t5", 1.0), ("rope", 2.0), ("t5", 3.0)):
        row = {"scheme": scheme, "length": 64, "tokens_per_s": rate}
        results.add("evaluation", where, {"settings": {}, "rounds": 2, "rows": [row]})
    memory = {"scheme": "t5", "length": 64, "peak_mib": 4.0}
    results.add("evaluation", where, {"settings": {}, "rounds": 0, "rows": [memory]})  # beside the speed
    rope, t5 = results.runs[-1]["rows"]
    assert (rope["tokens_per_s"], t5["tokens_per_s"], t5["peak_mib"]) == (2.0, 3.0, 4.0)
    assert results.runs[-1]["rounds"] == 2
    results.add("evaluation", where, {"settings": {}, "rounds": 0, "rows": [{**memory, "refused": "why"}]})
    assert "tokens_per_s" not in results.runs[-1]["rows"][1]


def test_the_clock_takes_turns_and_leaves_warm_up_out():
    turns = []
    works = {"a": lambda: (turns.append("a"), time.sleep(0.02)), "b": lambda: turns.append("b")}
    taken = interleaved(works, 3, CPU)
    assert turns == ["a", "b"] * 4
    assert [len(seconds) for seconds in taken.values()] == [3, 3]
    assert medians(taken)["a"] >= 0.02 > medians(taken)["b"]
    assert medians({"x": [3.0, 1.0, 50.0]}) == {"x": 3.0}
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(1 / 3)


def test_flops_of_a_token_are_those_of_its_products():
    """Counted from the weights of a block: 4 D^2 for attention and 8 D^2 for GELU, the output matrix once."""
    shape = Shape(layers=3, width=64, heads=4, length=32, batch=1, vocabulary=1000)
    expected = 6 * (3 * 12 * 64**2 + 1000 * 64) + 6 * 3 * 32 * 64
    options = shape.model | {"mlp": "gelu"}
    minimal = PEERS["minimal GPT (learned)"][1](shape)
    for model in (build(1000, 32, options), build(1000, 32, options | {"tie": False}), minimal):
        assert flops_per_token(model, shape) == expected


def test_the_ceiling_counts_its_operations():
    flops, works = ceiling(TINY, "fp32", CPU)
    for work in works.values():
        assert work() == pytest.approx(1.0, abs=0.01)  # what is counted is what is multiplied
    assert flops >= 2 * 2**30


def assert_causal(model: nn.Module, shape: Shape, device: torch.device) -> None:
    """A peer that sees the future would be no peer: changing the last token moves no earlier logits."""
    tokens = torch.zeros(1, shape.length, dtype=torch.int64, device=device)
    changed = tokens.clone()
    changed[0, -1] = 1
    with torch.no_grad():
        one, two = model(tokens)[:, :-1], model(changed)[:, :-1]
    assert torch.allclose(one, two, atol=1e-4), "a peer looks ahead"


@pytest.mark.parametrize("name", sorted(available()[0]))
def test_other_libraries_are_causal_and_lose_about_log_v(name: str):
    model = available()[0][name](TINY).eval()
    assert_causal(model, TINY, CPU)
    tokens = torch.randint(TINY.vocabulary, (2, TINY.length))
    logits = model(tokens)
    assert logits.shape == (2, TINY.length, TINY.vocabulary)
    assert 0.5 * math.log(TINY.vocabulary) < cross_entropy(logits, tokens).item() < 4 * math.log(TINY.vocabulary)


def test_a_peer_that_looks_ahead_is_noticed():
    class Cheat(nn.Module):
        def forward(self, tokens):
            return tokens.float().sum(1, keepdim=True).expand(-1, tokens.shape[1])

    with pytest.raises(AssertionError, match="looks ahead"):
        assert_causal(Cheat(), TINY, CPU)


def test_ours_and_theirs_take_the_same_step():
    """The step of our model computes the loss that the others' formula gives for its logits."""
    job = Training(TINY, (), "fp32")
    ours = models(job, CPU)[0]["nope"]

    class AsAPeer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = ours

        def forward(self, tokens):
            return self.inner(tokens)

    assert step(ours, job, CPU)() == pytest.approx(step(AsAPeer(), job, CPU)(), abs=1e-5)
    assert not by_content(ours)


def test_every_protocol_is_measured_at_sixteen_times_the_training_length(results: list[dict]):
    (run,) = (run for run in results if run["part"] == "protocols")
    rows = {row["protocol"]: row for row in run["rows"]}
    assert rows.keys() == {*protocols.names()} - {"exact_match"} == {*MEASURED}  # that one reads no text
    assert {row["length"] for row in rows.values()} == {16 * TINY.length}
    assert min(row["peak_mib"] for row in rows.values()) > 0
    assert rows["last_k"]["scored"] < rows["per_position"]["scored"] < rows["sliding"]["scored"]


def test_sliding_and_the_usual_way_score_the_same(tmp_path: Path):
    job = Protocols(TINY, precision="fp32")
    model = build(TINY.vocabulary, TINY.length, TINY.model, "rope").eval()
    selection = selected("sliding", job, TINY.length, tmp_path)
    torch.testing.assert_close(_ours(model, selection, job)(), _usual(model, selection, job)(), atol=1e-5, rtol=0)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
def test_the_peak_is_that_of_the_work():
    """In a process of its own: this one may have been told to keep what it frees."""
    code = (
        "import torch; from longrun.bench.evaluation import peak; cpu = torch.device('cpu');"
        "print(peak(lambda: torch.ones(64 * 2**18).add_(1), cpu), peak(lambda: None, cpu))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | RETURN_FREED_MEMORY, capture_output=True, text=True, check=True
    )
    work, nothing = (float(word) / 2**20 for word in done.stdout.split())
    assert 62 < work < 80
    assert nothing < 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--schemes", "rpoe"], "rpoe: unknown"),
        (["--part", "trainig"], "training"),
        (["--lengths", "1k"], "expected whole numbers"),
        (["--write", "nowhere.md"], "no such page"),
    ],
)
def test_mistakes_are_answered(words: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        bench.parse(words)

"""The gallery: what is drawn is what the encodings compute, and everything has a picture."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longrun.gallery import concepts
from longrun.gallery.page import brief, docstring_markdown, page
from longrun.gallery.panels import pooled, portrait_figure, save
from longrun.gallery.probe import FAR, LENGTH, MAP, MODEL, picture_key, portrait
from model.pe.registry import encodings_for, names
from model.shape import Shape
from scripts import gallery

ROOT = Path(__file__).resolve().parents[2]


def table(name: str, n: int) -> np.ndarray:
    head_dim = MODEL["width"] // MODEL["heads"]
    shape = Shape(MODEL["width"], MODEL["heads"], MODEL["heads"], head_dim, MODEL["layers"], LENGTH)
    return encodings_for(shape, name)[0].table(n).numpy()


@pytest.mark.parametrize("name", ["alibi", "sandwich"])
def test_a_curve_is_the_bias(name: str) -> None:
    (curve,) = portrait(name).curves
    bias = table(name, FAR * LENGTH)
    assert curve.length == FAR * LENGTH
    assert np.allclose(curve.values, bias - bias[:, :1], atol=1e-3)


def test_rotary_curves_are_the_mean_of_cosines() -> None:
    """<R_i 1, R_j 1> / sqrt(d) relative to i = j: sqrt(d) * (mean of cos - 1)."""
    (curve,) = portrait("rope").curves
    d = MODEL["width"] // MODEL["heads"]
    for distance in (1, 7, 100, 2000):
        mean = sum(math.cos(distance * 10000 ** (-2 * c / d)) for c in range(d // 2)) / (d // 2)
        assert curve.values[0, distance] == pytest.approx(math.sqrt(d) * (mean - 1), abs=1e-4)


def test_curves_end_where_a_mask_hides() -> None:
    (curve,) = portrait("window").curves
    assert np.isfinite(curve.values[:, :LENGTH]).all()
    assert np.isnan(curve.values[:, LENGTH:]).all()


def test_a_scheme_that_is_not_relative_has_two_curves_and_one_that_is_has_one() -> None:
    assert [curve.length for curve in portrait("fire").curves] == [FAR * LENGTH, LENGTH]
    assert [curve.length for curve in portrait("t5").curves] == [FAR * LENGTH]


def test_maps_hide_the_future_and_what_masks_hide() -> None:
    for name in ("alibi", "chunk", "rope"):
        for logits in portrait(name).maps["1, 2, 3, 4"]:
            i, j = np.indices(logits.shape)
            hidden = j > i
            if name == "chunk":
                hidden |= i // (LENGTH // 4) != j // (LENGTH // 4)
            assert np.array_equal(np.isnan(logits), hidden)
            assert np.allclose(np.nanmax(logits, axis=1), 0)
    assert [len(logits) for logits in portrait("rope").maps["1, 2, 3, 4"]] == [LENGTH, MAP * LENGTH]


def test_layers_of_a_kind_are_drawn_once() -> None:
    assert list(portrait("irope").maps) == ["1, 2, 3", "4"]
    assert list(portrait("gpt_oss").maps) == ["1, 3", "2, 4"]
    assert list(portrait("cope").maps) == ["1, 2, 3, 4"]


def test_what_a_scheme_does_decides_what_is_drawn() -> None:
    absolute, nothing, scaled, sink = (portrait(name) for name in ("learned", "nope", "logn", "sink"))
    assert absolute.code is not None
    assert absolute.code.shape[0] == absolute.ends == LENGTH
    assert not absolute.curves
    assert nothing.code is None
    assert np.ptp(nothing.curves[0].values) == 0
    assert scaled.scale is not None
    assert np.allclose(scaled.scale[:LENGTH], 1)
    assert scaled.scale[-1] == pytest.approx(math.log(FAR * LENGTH) / math.log(LENGTH), rel=1e-4)
    assert sink.sink is not None
    assert sink.sink[99] == pytest.approx(1 / 101, rel=0.1)  # a logit near 0 against a hundred of 0


def test_pooling_keeps_means_and_holes() -> None:
    values = np.array([[1.0, 3, np.nan, np.nan], [5, 7, np.nan, np.nan], [0, 0, 2, np.nan], [0, 4, 4, 6]])
    assert np.array_equal(pooled(values, 2), [[4, np.nan], [1, 4]], equal_nan=True)


def test_the_shift_matrix_moves_every_position() -> None:
    code = concepts.sinusoid(200, 32)
    for shift in (1, 10, 77):
        moved = code[:-shift] @ concepts.shift_matrix(32, shift).T
        assert np.abs(moved - code[shift:]).max() < 1e-5


def test_the_base_bounds_the_length_as_published() -> None:
    """Recomputed thresholds of Su's condition at d = 128; from one base to the next the length may fall again."""
    for length, base in ((2048, 1.4e4), (4096, 2.9e4), (8192, 9.1e4)):
        near = [concepts.usable_length(b, 128) for b in np.geomspace(base * 0.95, base * 1.05, 9)]
        assert max(near) >= length
        assert concepts.usable_length(base / 3, 128) < length


def test_the_envelope_is_about_right() -> None:
    x = np.arange(20, 2000)
    line = 1 - (np.log(x) + concepts.GAMMA) / math.log(1e4)
    assert np.abs(concepts.kernel(x, 1e4, 128) - line).mean() < 0.05


@pytest.mark.parametrize("name", ["sinusoidal", "learned_window", "t5", "gpt_oss", "logn"])
def test_a_picture_is_small_and_not_empty(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.png"
    save(portrait_figure(portrait(name)), path)
    assert path.stat().st_size < 120_000
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.width <= 1800
        assert len(image.getcolors(256)) > 8


def test_every_scheme_has_a_portrait() -> None:
    for name in names()[:: max(1, len(names()) // 12)]:  # a dozen here; `make gallery` draws all
        drawn = portrait(name)
        assert drawn.code is not None or drawn.curves or drawn.maps


def test_names_that_mean_the_same_share_a_picture() -> None:
    assert picture_key("baichuan_7b") == picture_key("rope")
    assert picture_key("rope_abf") != picture_key("rope")


def test_the_page_says_everything_once(tmp_path: Path) -> None:
    pictures = {name: f"gallery/{name}.png" for name in names()}
    text = page(pictures, concepts.CONCEPTS)
    for name in names():
        assert text.count(f"`pe={name}`") == 1
        assert f"(gallery/{name}.png)" in text
    assert all(f"(gallery/{concept}.png)" in text for concept in concepts.CONCEPTS)
    anchors = {
        re.sub(r"[^a-z -]", "", line[3:].lower()).replace(" ", "-") for line in text.splitlines() if line[:3] == "## "
    }
    assert set(re.findall(r"\]\(#([a-z-]+)\)", text)) == anchors
    sources = re.findall(r"\]\(\.\./(model/pe/\w+\.py)\)", text)
    assert sources
    assert all((ROOT / source).is_file() for source in sources)


def test_docstrings_become_markdown() -> None:
    text = docstring_markdown(
        """A thing (2104.09864): x_t * w.

            s_ij = <q_i, k_j>

        More, `a_b` kept.  It ends.
        size: an option that is left out
        """
    )
    assert "[2104.09864](https://arxiv.org/abs/2104.09864)" in text
    assert r"x\_t \* w" in text
    assert "```\ns_ij = <q_i, k_j>\n```" in text
    assert "`a_b` kept" in text
    assert "size:" not in text
    assert (
        brief({"name": "rope_window", "parts": ["rope", {"name": "window", "size": 0.5}]}) == "rope + window(size=0.5)"
    )


def test_the_command_draws_what_is_asked_for(tmp_path: Path) -> None:
    assert gallery.main(["--out", str(tmp_path / "g"), "--only", "alibi", "baichuan_13b", "nope"]) == 0
    assert sorted(file.name for file in (tmp_path / "g").iterdir()) == ["alibi.png", "nope.png"]
    command = [sys.executable, "-m", "scripts.gallery", "--out", str(tmp_path), "--only", "alibbi"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Did you mean alibi?" in done.stderr
    assert torch.get_num_threads() == 1

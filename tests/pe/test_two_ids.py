"""Plans with two position ids a token, and the encodings that read them."""

import pytest
import torch
from tiny_plans import LENGTH, SHAPE, equally_likely, given, model, seeded, text
from torch import Tensor

from model.errors import ModelError
from model.positions.base import PositionPlan


def slow_segments(row: list[int], delimiters: list[int], longest: int) -> list[list[int]]:
    ids, place, segment = [], 0, 0
    for token in row:
        ids.append([min(place, longest - 1), segment])
        place += 1
        if token in delimiters:
            place, segment = 0, segment + 1
    return ids


def test_segments_end_with_their_delimiters() -> None:
    x = torch.randint(6, (3, 60), generator=seeded(0))
    options = {"name": "segments", "delimiters": [2, 5], "longest": 7}
    got = given(options, 3, 60, tokens=x)
    assert got.tolist() == [slow_segments(row, [2, 5], 7) for row in x.tolist()]
    halves = torch.cat([given(options, 3, 30, tokens=x[:, :30]), given(options, 3, 30, tokens=x[:, 30:])], 1)
    packed = given(options, 3, 60, tokens=x, documents=(torch.arange(60) >= 30).long().expand(3, -1))
    assert torch.equal(packed[..., 0], halves[..., 0])
    with pytest.raises(ModelError, match=r"positions\.delimiters=null"):
        model("bipe", "segments")


def slow_digits(row: list[int], digits: list[int], longest: int, shift: int) -> list[list[int]]:
    ids, place = [], 0
    for t, token in enumerate(row):
        place = place + 1 if token in digits else 0
        ids.append([min(place + shift, longest - 1) if place else 0, t])
    return ids


def test_digits_count_from_the_beginning_of_their_number() -> None:
    x, digits = torch.randint(6, (3, 60), generator=seeded(0)), [1, 2, 3, 5]
    options = {"name": "digits", "digits": digits}
    got = given(options, 3, 60, tokens=x, training=False)
    assert got.tolist() == [slow_digits(row, digits, LENGTH, 0) for row in x.tolist()]
    assert got[..., 0].max() > 4
    first = given(options, 3, 30, tokens=x[:, :30], training=False)  # a prefix is not changed by what follows
    assert torch.equal(first, got[:, :30])
    both = torch.cat([first[..., 0], given(options, 3, 30, tokens=x[:, 30:], training=False)[..., 0]], 1)
    documents = (torch.arange(60) >= 30).long().expand(3, -1)
    assert torch.equal(given(options, 3, 60, tokens=x, training=False, documents=documents)[..., 0], both)
    assert not torch.equal(got[..., 0], both)


def test_places_of_digits_are_moved_on_in_training() -> None:
    x, digits = torch.randint(6, (4000, 12), generator=seeded(0)), [1, 2, 3, 5]
    options = {"name": "digits", "digits": digits, "shift": 10}
    moved = given(options, 4000, 12, generator=seeded(1), tokens=x)[..., 0]
    still = given(options, 4000, 12, training=False, tokens=x)[..., 0]
    is_digit = torch.isin(x, torch.tensor(digits))
    assert (moved[~is_digit] == 0).all()
    shift = torch.where(is_digit, moved - still, -1).amax(1)
    assert torch.equal(moved, torch.where(is_digit, still + shift[:, None], 0))  # one draw a sequence
    assert equally_likely(shift[shift >= 0].bincount(minlength=11))
    with pytest.raises(ModelError, match=r"positions\.digits=null"):
        model("bipe", "digits")


@pytest.mark.parametrize("pe", ["bipe", "bipe_alibi"])
def test_bipe_reads_one_id_in_the_embedding_and_one_in_attention(pe: str) -> None:
    """Against a model whose ids are laid in by hand: the code of the place is added to the embedding of each token."""
    delimiters = {"name": "segments", "delimiters": [3, 7]}
    network, x = model(pe, delimiters).eval(), text(2, 2 * LENGTH)  # no segment is longer than the table
    ids = torch.tensor([slow_segments(row, [3, 7], LENGTH) for row in x.tolist()])
    rows = next(component for component in network.components() if component.which == 0).part.rows
    plain = model(pe.removeprefix("bipe").lstrip("_") or "rope").eval()
    shared = {k: v for k, v in network.state_dict().items() if not k.startswith("encodings")}
    plain.load_state_dict(shared)

    class Numbers(PositionPlan):
        contiguous = False

        def positions(self, *args: object, **more: object) -> Tensor:
            return ids[..., 1]

    plain.plan = Numbers(SHAPE)
    codes = {"embedding": plain.embedding.weight[x] + rows[ids[..., 0]]}
    plain.embedding.forward = lambda tokens: codes["embedding"]
    with torch.no_grad():
        assert (network(x) - plain(x)).abs().max() < 1e-5
        memory = network.new_cache()
        pieces = [network(piece, cache=memory) for piece in x.split([40, 1, 1, 22], 1)]
        assert (torch.cat(pieces, 1) - network(x)).abs().max() < 1e-5


def test_two_ids_are_for_those_that_read_them() -> None:
    for pe in ("rope", "learned", "compose"):
        with pytest.raises(ModelError, match=f"two position ids per token, and pe={pe} reads one"):
            model(pe, {"name": "segments", "delimiters": [1]})
    x = text(2, 24)
    one, two = model("rope_2d", "generated_block"), model("rope_2d")
    with torch.no_grad():
        assert torch.equal(one.eval()(x), two.eval()(x))  # all prompt
        assert not torch.allclose(one.train()(x, generator=seeded(0)), two.train()(x), atol=1e-3)


def test_a_generated_block_counts_in_the_second_id() -> None:
    for row in given("generated_block", 200, 9).tolist():
        prompt = sum(1 for _, block in row if block == 0)
        assert row == [[t, 0] if t < prompt else [prompt - 1, t - prompt + 1] for t in range(9)]
    prompts = (given("generated_block", 3600, 9)[..., 1] == 0).sum(1)
    assert equally_likely(prompts.bincount()[1:])
    assert prompts.min() == 1
    assert prompts.max() == 9

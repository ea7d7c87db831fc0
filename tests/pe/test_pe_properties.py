"""What every position encoding must do, checked for each file of configs/pe from its declarations alone.

And, where it makes sense, for each file of configs/extension, put on an encoding that it applies to.

None of these tests knows a scheme. That a formula is the paper's is the business of the reference tests; what is held
here is everything that can be wrong whatever the formula: a look into the future, an offset, a stale cache, a forgotten
parameter, a rounded position, an option without effect.
"""

import itertools
import math
from collections.abc import Iterable

import pytest
import torch
from tiny_models import (
    TRAIN_LENGTH,
    VOCABULARY,
    Apart,
    Gapped,
    Restarting,
    Shifted,
    decoded,
    logits,
    longest,
    plain,
    relative,
    running,
    shared,
    tiny,
    tokens,
    values_and_gradients,
)
from torch import Tensor

from model.errors import ModelError
from model.extension.registry import extensions
from model.init import initialise
from model.pe.registry import names
from model.transformer import UNSCORED

every_scheme = pytest.mark.parametrize("name", names())
extended = [f"+{name}" for name in extensions.names() if name != "none"]
every_encoding = pytest.mark.parametrize("name", names() + extended)
FAR = 100_003  # a position that bfloat16 rounds to 99,840
BEYOND = TRAIN_LENGTH + 8  # a length past the training length
NOISE = 2e-5  # float32 sums in another order; logits are of size 1


def difference(a: Tensor, b: Tensor) -> float:
    """Largest difference; infinite if anything is not finite."""
    largest = (a - b).abs().max().item()
    return largest if math.isfinite(largest) else math.inf


@every_encoding
def test_the_future_is_invisible(name: str) -> None:
    model = shared(name)
    n = longest(model, BEYOND)
    before = tokens(1, n).repeat(n, 1)
    later = torch.arange(n) >= torch.arange(n)[:, None]  # row t: other tokens from t on
    after = torch.where(later, (before + 1 + torch.arange(n)) % VOCABULARY, before)
    change = (logits(model, after, chunk=16) - logits(model, before, chunk=16)).abs().amax(-1)
    assert change[~later].max() <= 1e-6
    assert change.diagonal().min() > 1e-3  # and the tokens do matter


@every_encoding
def test_a_prefix_computes_what_it_computes_alone(name: str) -> None:
    model = shared(name)
    n = longest(model, 2 * TRAIN_LENGTH)
    whole = logits(model, tokens(2, n), chunk=16)
    lengths = [t for t in (1, 2, 15, 31, 32, 33, 50) if t < n]
    alone = [difference(logits(model, tokens(2, n)[:, :t], chunk=16), whole[:, :t]) for t in lengths]
    assert (max(alone) <= NOISE) == (not model.length_dependent), alone


@every_encoding
def test_a_common_shift_changes_nothing_exactly_if_relative(name: str) -> None:
    model = shared(name)
    n = longest(model, BEYOND)
    if model.max_positions is not None:
        n = min(n, model.max_positions // 2)
    starts = [s if model.max_positions is None else min(s, model.max_positions - n) for s in (1, 1009, FAR)]
    x = tokens(2, n)
    here = logits(model, x)
    ways = [{"kernel": "dense"}, {"kernel": "chunked", "chunk": 16}]
    moved = [
        difference(logits(model, x, plan=Shifted(start, contiguous), **way), here)
        for start in starts
        for way in ways
        for contiguous in (True, False)
    ]
    if relative(model):
        assert max(moved) <= NOISE
    else:
        assert max(moved) > 1e-3, f"{name} is relative: declare it"


CUTS = {"tokens": range(1, BEYOND), "chunks": range(7, BEYOND, 7), "prompt": (20, 21, 22, TRAIN_LENGTH + 1)}


@every_encoding
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_cached_decoding_equals_the_full_forward(name: str, cuts: Iterable[int]) -> None:
    model = shared(name)
    x = tokens(2, longest(model, BEYOND))
    change = difference(decoded(model, x, cuts, chunk=16), logits(model, x, kernel="dense"))
    # A scheme whose code of a token changes as the text grows is stale in a cache: that is what the declaration says.
    assert (change <= NOISE) == (not model.length_dependent), change


@every_encoding
def test_scoring_the_last_tokens_alone_gives_the_same_numbers(name: str) -> None:
    model = shared(name)
    x = tokens(2, longest(model, BEYOND))
    with running(model, chunk=16):
        whole = model.nll(x, x.roll(-1, 1)).view(x.shape)
        for count in (1, 7, 20):
            targets = x.roll(-1, 1)
            targets[:, :-count] = targets[1, -1] = UNSCORED
            found = model.nll(x, targets)
            assert difference(found, whole[targets != UNSCORED]) <= NOISE


@every_encoding
def test_biases_made_a_few_at_a_time_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no memory for those of all queries, in evaluation and in training."""
    model = shared(name)
    x = tokens(2, longest(model, BEYOND))
    expected, wanted = values_and_gradients(model, x, kernel="dense")
    targets = x.roll(-1, 1)
    targets[:, :-20] = UNSCORED
    scored = model.nll(x, targets)
    monkeypatch.setattr("model.attention.logits.MAX_MASK_BYTES", 1)
    monkeypatch.setattr("model.attention.logits.CHUNK", 16)
    assert difference(logits(model, x, chunk=16), expected) <= NOISE
    assert difference(model.nll(x, targets), scored) <= NOISE
    got, gradients = values_and_gradients(model, x, chunk=16)
    assert difference(got, expected) <= NOISE
    for parameter, gradient in gradients.items():
        assert difference(gradient, wanted[parameter]) <= 1e-4 * max(1e-3, wanted[parameter].abs().max().item())


@every_encoding
def test_packed_documents_do_not_see_each_other(name: str) -> None:
    model = shared(name)
    n = longest(model, BEYOND)
    x, ends = tokens(2, n), [0, 5, 20, n]
    documents = torch.bucketize(torch.arange(n), torch.tensor(ends[1:-1]), right=True).repeat(2, 1)
    alone = torch.cat([logits(model, x[:, a:b]) for a, b in itertools.pairwise(ends)], 1)
    packed = logits(model, x, documents=documents, plan=Restarting(), chunk=16)
    assert (difference(packed, alone) <= NOISE) == (not model.length_dependent)
    running_on = logits(model, x, documents=documents, chunk=16)  # positions do not restart
    if relative(model) and not model.length_dependent:
        assert difference(running_on, alone) <= NOISE
    other = torch.where(documents == 1, (x + 1) % VOCABULARY, x)
    change = (logits(model, other, documents=documents, chunk=16) - running_on).abs().amax(-1)
    assert change[documents != 1].max() <= 1e-6
    assert change[documents == 1].max() > 1e-3


@every_encoding
def test_every_parameter_learns(name: str) -> None:
    _, gradients = values_and_gradients(shared(name), tokens(2, TRAIN_LENGTH))
    for parameter, gradient in gradients.items():
        assert gradient.isfinite().all(), parameter
        assert gradient.abs().max() > 0, f"{parameter} has no gradient"


@every_encoding
def test_all_legal_kernels_agree_in_values_and_gradients(name: str) -> None:
    model = tiny(name, kv_heads=2, qk_norm=True)
    cases = [(BEYOND, 16, model.plan), (33, 8, model.plan)]
    if model.max_positions is None:
        cases.append((24, 5, Gapped()))
    for n, chunk, plan in cases:
        x = tokens(2, longest(model, n))
        expected, wanted = values_and_gradients(model, x, kernel="dense", plan=plan)
        for kernel in ["chunked"] + ["flash"] * plain(model):
            got, gradients = values_and_gradients(model, x, kernel=kernel, chunk=chunk, plan=plan)
            assert difference(got, expected) <= NOISE, (kernel, n)
            for parameter, gradient in gradients.items():
                scale = max(1e-3, wanted[parameter].abs().max().item())
                assert difference(gradient, wanted[parameter]) <= 1e-4 * scale, (parameter, kernel, n)


@every_encoding
def test_four_times_the_training_length_works_or_is_refused_by_name(name: str) -> None:
    model, wanted = shared(name), 4 * TRAIN_LENGTH
    assert logits(model, tokens(1, longest(model, wanted)), chunk=32).isfinite().all()
    limit = model.max_positions
    if limit is None:
        return
    x, named = tokens(1, limit + 1), rf"length={limit + 1}\b.*\b{limit}\b"
    with pytest.raises(ModelError, match=named):
        logits(model, x)
    if limit <= wanted:
        with pytest.raises(ModelError, match=named):
            decoded(model, x, [limit - 1, limit])


@every_encoding
def test_bfloat16_weights_leave_positions_exact(name: str) -> None:
    """Far out the bfloat16 model is as near to the float32 model of the same weights as it is at the beginning."""
    rounded, exact = tiny(name).bfloat16(), tiny(name)
    exact.load_state_dict(rounded.state_dict())
    x = tokens(4, longest(rounded, TRAIN_LENGTH))
    spare = FAR if rounded.max_positions is None else min(FAR, rounded.max_positions - x.shape[1])
    # bfloat16 counts to 256: distances of 1,000 and 1,003 are one and the same there.
    plans = [Shifted(0), Shifted(spare), Shifted(spare, contiguous=False), Apart(min(spare, 1000))]
    apart = []
    for plan in plans:
        a, b = logits(rounded, x, plan=plan), logits(exact, x, plan=plan)
        apart.append((a - b).square().mean().sqrt().item() / b.square().mean().sqrt().item())
    assert max(apart) < 5 * apart[0], apart
    for a, b in zip(rounded.encodings, exact.encodings, strict=True):
        if a.overrides("table"):  # where softmax forgives what is wrong far away, the table itself does not
            assert torch.equal(a.table(2048), b.table(2048))


@every_scheme
def test_mixed_precision_trains(name: str) -> None:
    model, x = shared(name), tokens(4, TRAIN_LENGTH + 1)[:, : longest(shared(name), TRAIN_LENGTH)]
    loss = model.loss(x, x.roll(-1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.loss(x, x.roll(-1, 1))
    assert abs(mixed - loss) < 0.02 * loss
    for (parameter, _), gradient in zip(
        model.named_parameters(), torch.autograd.grad(mixed, list(model.parameters())), strict=True
    ):
        assert gradient.dtype == torch.float32, parameter
        assert gradient.isfinite().all(), parameter


@every_encoding
def test_a_model_is_its_learned_parameters_and_nothing_else(name: str) -> None:
    model = shared(name)
    assert list(model.buffers()) == []
    assert list(model.state_dict()) == [parameter for parameter, _ in model.named_parameters()]
    assert all(parameter.requires_grad for parameter in model.parameters())
    x = tokens(2, longest(model, BEYOND))
    for fill in (lambda m: m.load_state_dict(model.state_dict()), lambda m: initialise(m, seed=0)):
        with torch.device("meta"):
            other = tiny(name)
        assert all(parameter.is_meta for parameter in other.parameters())
        other.to_empty(device="cpu")
        fill(other)
        assert torch.equal(logits(other, x), logits(model, x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rope", "t5", "rope_window"])
def test_compiled_equals_eager(name: str) -> None:
    model, x = tiny(name, layers=2), tokens(2, TRAIN_LENGTH)
    expected, wanted = logits(model, x), model.loss(x, x.roll(-1, 1))
    compiled = torch.compile(model)
    with torch.no_grad():
        assert difference(compiled(x), expected) <= NOISE
    loss = compiled(x, x.roll(-1, 1))
    loss.backward()
    eager = torch.autograd.grad(wanted, list(model.parameters()))
    for (parameter, p), gradient in zip(model.named_parameters(), eager, strict=True):
        assert difference(p.grad, gradient) <= 1e-4 * max(1e-3, gradient.abs().max().item()), parameter

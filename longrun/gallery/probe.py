"""Arrays that the gallery draws, computed by the encodings that a scheme builds.

Shapes: L training length, H heads, D width, T tokens.
"""

from dataclasses import dataclass

import numpy as np
import torch

from model import build
from model.attention.dense import logits
from model.attention.logits import LogitsSpec, SharedAcrossLayers
from model.pe.base import Context, PositionEncoding
from model.pe.registry import schemes

LENGTH = 128  # the training length of the models drawn
FAR = 16  # length of the curves, in training lengths
MAP = 4  # length of the larger maps, in training lengths
MODEL = {"layers": 4, "width": 256, "heads": 4}
SEGMENT = 16  # tokens of a segment, for encodings with two position ids per token
CHANNELS = 64  # width of the model whose codes are drawn, small enough to show each channel
HEAD = 1  # index of the head whose maps are drawn; in some schemes the first attends to very few keys


@dataclass(frozen=True)
class LogitCurve:
    """Logits of the last query against each distance, relative to the query's own key; NaN where keys are masked."""

    length: int  # tokens in the sequence
    values: np.ndarray  # (H, length)


@dataclass(frozen=True)
class Portrait:
    """Arrays of one scheme. None or empty: not applicable."""

    code: np.ndarray | None  # (T, D) vectors added to the embedding
    curves: list[LogitCurve]
    maps: dict[str, list[np.ndarray]]  # layers -> logits (T, T) at each length, see `logit_map`
    scale: np.ndarray | None  # (T,) factors of the logits
    sink: np.ndarray | None  # (T,) weight of the sink
    ends: int | None  # number of positions, if limited


@torch.no_grad()
def portrait(name: str) -> Portrait:
    model = build(64, LENGTH, MODEL, name)
    components = model.components()
    ends = (
        None if any(component.position_axes for component in components) else model.max_positions
    )  # the number of segments is not limited
    layers = [model.encodings[which] for which in model.encoding_of_layer]
    acts = any(encoding.overrides(*ATTENTION) for encoding in model.encodings) or not components[0].overrides("embed")
    scale, sink = logit_scale(layers, ends), sink_share(layers, ends)
    return Portrait(
        code=code(name, within(2 * LENGTH, ends))
        if any(component.overrides("embed") for component in components)
        else None,
        curves=curves(layers, ends) if acts else [],
        maps=maps(layers, ends) if acts else {},
        scale=scale,
        sink=sink,
        ends=ends if ends is not None and ends < FAR * LENGTH else None,
    )


ATTENTION = ("map_q", "map_k", "scores", "table", "bias", "allowed", "sink", "token_state", "values")


def within(length: int, ends: int | None) -> int:
    return length if ends is None else min(length, ends)


def picture_key(name: str) -> str:
    """A key that is equal for names with the same scheme and options, which look the same."""
    return str({key: value for key, value in schemes.resolve(name).items() if key != "name"})


def code(name: str, length: int) -> np.ndarray:
    """Sum that the encodings add to zero embeddings, (T, D)."""
    model = build(64, LENGTH, MODEL | {"width": CHANNELS}, name)
    components = model.components()
    context = context_of(components, length, length)
    x = torch.zeros(1, length, model.shape.width)
    for component in components:
        x = component.embed(x, context)
    return x[0].numpy()


def curves(layers: list[PositionEncoding], ends: int | None) -> list[LogitCurve]:
    """Curves of the layer with the largest window: at the longest length and, if it differs, at the training length."""
    encoding = max(layers, key=lambda layer: layer.window_size() or FAR * LENGTH)
    by_length = []
    for length in dict.fromkeys((within(FAR * LENGTH, ends), LENGTH)):
        by_distance = attention(encoding, length, queries=1)[:, 0].flip(-1)  # (H, T)
        relative = by_distance - by_distance[:, :1]
        by_length.append(LogitCurve(length, relative.where(relative.isfinite(), torch.nan).numpy()))
    near = by_length[0].values[:, :LENGTH]
    same = np.allclose(near, by_length[-1].values, atol=1e-3, equal_nan=True)
    return by_length[:1] if same else by_length


def maps(layers: list[PositionEncoding], ends: int | None) -> dict[str, list[np.ndarray]]:
    """Logits by layers and length; equal layers are drawn once."""
    lengths = [LENGTH] if ends is not None and ends < MAP * LENGTH else [LENGTH, MAP * LENGTH]
    kinds: dict[str, list[int]] = {}
    for number, layer in enumerate(layers):
        kinds.setdefault(kind(layer), []).append(number)
    return {
        ", ".join(str(number + 1) for number in numbers): [logit_map(layers[numbers[0]], n) for n in lengths]
        for numbers in kinds.values()
    }


def kind(layer: PositionEncoding) -> str:
    """Classes and options of a layer's encodings: equal for layers that differ only in learned values."""
    plain = (int, float, str, type(None))
    return str(
        [
            (type(component), {k: v for k, v in vars(component).items() if isinstance(v, plain)})
            for component in layer.components()
        ]
    )


def logit_map(encoding: PositionEncoding, length: int) -> np.ndarray:
    """Logits (T, T) relative to the largest of each query, NaN where a key is masked."""
    every = attention(encoding, length, queries=length)[HEAD]
    relative = every - every.amax(dim=-1, keepdim=True)
    return relative.where(relative.isfinite(), torch.nan).numpy()


def logit_scale(layers: list[PositionEncoding], ends: int | None) -> np.ndarray | None:
    """Factor of the query per position, in the first layer where it varies; None if it varies in none."""
    length = within(FAR * LENGTH, ends)
    for layer in dict.fromkeys(layers):
        if layer.overrides("map_q") and not layer.overrides("scores", "token_state"):
            q = mapped(layer, length, length)[0]
            sizes = q[0, 0].norm(dim=-1)
            if sizes.max() > 1.001 * sizes.min():
                return (sizes / q.shape[-1] ** 0.5).numpy()
    return None


def sink_share(layers: list[PositionEncoding], ends: int | None) -> np.ndarray | None:
    """Weight of the sink per number of keys if all logits are 0; None without a sink."""
    length = within(FAR * LENGTH, ends)
    layer = next((layer for layer in layers if layer.overrides("sink") and layer.window_size() is None), None)
    if layer is None:
        return None
    total = attention(layer, length, queries=length, content=0.0)[HEAD].logsumexp(-1)
    sink = layer.sink()
    assert sink is not None
    return torch.sigmoid(sink[HEAD] - total).numpy()


def attention(encoding: PositionEncoding, length: int, queries: int, content: float = 1.0) -> torch.Tensor:
    """Logits (H, queries, length) for equal content: every channel of a query or a key is `content`.

    Content-dependent schemes get fixed random token states.
    """
    q, k, spec = mapped(encoding, length, queries, content)
    return logits(q, k, spec)[0]


def mapped(
    encoding: PositionEncoding, length: int, queries: int, content: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, LogitsSpec]:
    shape, context = encoding.shape, context_of(encoding.components(), length, queries)
    shared = SharedAcrossLayers.of(encoding, context)
    x = torch.randn(1, length, shape.width, generator=torch.Generator().manual_seed(0))
    state = encoding.token_state(x)
    raw = torch.full((1, shape.heads, length, shape.head_dim), content)
    q = encoding.map_q(raw[:, :, -queries:], context, shared.prepared, state)
    k = encoding.map_k(raw, context, shared.prepared, state)
    features = encoding.content_features(state, context)
    return q, k, LogitsSpec(encoding, context, shared, features, shape.head_dim**-0.5)


def context_of(components: list[PositionEncoding], length: int, queries: int) -> Context:
    """Positions 0, 1, 2, ...; with two ids per token, the position in a segment and its number."""
    index = torch.arange(length)
    if not any(component.position_axes for component in components):
        return Context(index[None], queries, LENGTH, length, contiguous=True)
    ids = torch.stack([index % SEGMENT, index // SEGMENT], -1)
    return Context(ids[None], queries, LENGTH, length, contiguous=False)

"""What the gallery draws of a scheme, asked of the encodings it builds: arrays, and no picture yet.

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
FAR = 16  # curves reach to 16 times that
MAP = 4  # maps to 4 times
MODEL = {"layers": 4, "width": 256, "heads": 4}
SEGMENT = 16  # tokens of a segment, for encodings that read two ids a token
CHANNELS = 64  # width of the model whose codes are drawn: narrow enough to see each channel
HEAD = 1  # the head whose maps are drawn: the second, for in some schemes the first sees next to nothing


@dataclass(frozen=True)
class Curve:
    """Logits of the last query against each distance, relative to the query's own key; nan where it cannot look."""

    length: int  # tokens in the sequence
    values: np.ndarray  # (H, length)


@dataclass(frozen=True)
class Portrait:
    """None or empty: the scheme does nothing of the kind."""

    code: np.ndarray | None  # (T, D) what is added to the embedding
    curves: list[Curve]
    maps: dict[str, list[np.ndarray]]  # layers it holds for -> logits (T, T) at each length, see `logit_map`
    scale: np.ndarray | None  # (T,) what logits are multiplied by
    sink: np.ndarray | None  # (T,) weight that no key gets
    ends: int | None  # positions there are


@torch.no_grad()
def portrait(name: str) -> Portrait:
    model = build(64, LENGTH, MODEL, name)
    components = model.components()
    ends = (
        None if any(component.position_axes for component in components) else model.max_positions
    )  # segments may be as many as they like
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


def same_picture(name: str) -> str:
    """Two names with the same scheme and options look alike; this is what they have in common."""
    return str({key: value for key, value in schemes.resolve(name).items() if key != "name"})


def code(name: str, length: int) -> np.ndarray:
    """What the encodings add to embeddings that are zero, (T, D)."""
    model = build(64, LENGTH, MODEL | {"width": CHANNELS}, name)
    components = model.components()
    context = context_of(components, length, length)
    x = torch.zeros(1, length, model.shape.width)
    for component in components:
        x = component.embed(x, context)
    return x[0].numpy()


def curves(layers: list[PositionEncoding], ends: int | None) -> list[Curve]:
    """Of the layer that sees furthest: at the far end and, where that is another function, at the training length."""
    encoding = max(layers, key=lambda layer: layer.window_size() or FAR * LENGTH)
    found = []
    for length in dict.fromkeys((within(FAR * LENGTH, ends), LENGTH)):
        by_distance = attention(encoding, length, queries=1)[:, 0].flip(-1)  # (H, T)
        relative = by_distance - by_distance[:, :1]
        found.append(Curve(length, relative.where(relative.isfinite(), torch.nan).numpy()))
    near = found[0].values[:, :LENGTH]
    return found[:1] if np.allclose(near, found[-1].values, atol=1e-3, equal_nan=True) else found


def maps(layers: list[PositionEncoding], ends: int | None) -> dict[str, list[np.ndarray]]:
    """Logits by layer and length; layers of one kind are drawn once."""
    lengths = [LENGTH] if ends is not None and ends < MAP * LENGTH else [LENGTH, MAP * LENGTH]
    kinds: dict[str, list[int]] = {}
    for number, layer in enumerate(layers):
        kinds.setdefault(kind(layer), []).append(number)
    return {
        ", ".join(str(number + 1) for number in numbers): [logit_map(layers[numbers[0]], n) for n in lengths]
        for numbers in kinds.values()
    }


def kind(layer: PositionEncoding) -> str:
    """What a layer's encodings are and their options: layers that differ only in learned values are of one kind."""
    plain = (int, float, str, type(None))
    return str(
        [
            (type(component), {k: v for k, v in vars(component).items() if isinstance(v, plain)})
            for component in layer.components()
        ]
    )


def logit_map(encoding: PositionEncoding, length: int) -> np.ndarray:
    """Logits (T, T) relative to the largest of each query, nan where a key is hidden."""
    every = attention(encoding, length, queries=length)[HEAD]
    relative = every - every.amax(dim=-1, keepdim=True)
    return relative.where(relative.isfinite(), torch.nan).numpy()


def logit_scale(layers: list[PositionEncoding], ends: int | None) -> np.ndarray | None:
    """What a query is multiplied by at each position, in the layer where that varies; None if nowhere."""
    length = within(FAR * LENGTH, ends)
    for layer in dict.fromkeys(layers):
        if layer.overrides("map_q") and not layer.overrides("scores", "token_state"):
            q = mapped(layer, length, length)[0]
            sizes = q[0, 0].norm(dim=-1)
            if sizes.max() > 1.001 * sizes.min():
                return (sizes / q.shape[-1] ** 0.5).numpy()
    return None


def sink_share(layers: list[PositionEncoding], ends: int | None) -> np.ndarray | None:
    """Weight that no key gets where all logits are 0, for each number of keys."""
    length = within(FAR * LENGTH, ends)
    layer = next((layer for layer in layers if layer.overrides("sink") and layer.window_size() is None), None)
    if layer is None:
        return None
    total = attention(layer, length, queries=length, content=0.0)[HEAD].logsumexp(-1)
    sink = layer.sink()
    assert sink is not None
    return torch.sigmoid(sink[HEAD] - total).numpy()


def attention(encoding: PositionEncoding, length: int, queries: int, content: float = 1.0) -> torch.Tensor:
    """Logits (H, queries, length) where all content is alike: every channel of a query or a key is `content`.

    Schemes that look at the content of tokens are given the same random one each time.
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
    """Positions 0, 1, 2, ...; for encodings of two ids a token the place in a segment and the segment's number."""
    index = torch.arange(length)
    if not any(component.position_axes for component in components):
        return Context(index[None], queries, LENGTH, length, contiguous=True)
    ids = torch.stack([index % SEGMENT, index // SEGMENT], -1)
    return Context(ids[None], queries, LENGTH, length, contiguous=False)

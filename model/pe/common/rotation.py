"""Turning pairs of channels: the one rotation that every rotary scheme uses."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...precision import exact


@dataclass(frozen=True)
class Rotation:
    """cos and sin of every position and pair, float32 (B|1, 1, T, r/2)."""

    cos: Tensor
    sin: Tensor

    def last(self, n: int) -> "Rotation":
        return Rotation(self.cos[:, :, -n:], self.sin[:, :, -n:])


def angles(
    positions: Tensor, frequencies: Tensor, amplitude: float = 1.0, device: torch.device | None = None
) -> Rotation:
    """positions (B|1, T) times frequencies (r/2,), scaled by `amplitude` (YaRN's m), on `device` (None: theirs).

    The product is taken in float64 and only cos and sin are rounded: in float32 an angle near 100,000 is off by 0.004.
    """
    device = device or positions.device
    places = exact(positions)
    angle = places[:, None, :, None] * frequencies.to(places.device).double()
    return Rotation((angle.cos() * amplitude).float().to(device), (angle.sin() * amplitude).float().to(device))


def rotate(x: Tensor, rotation: Rotation, layout: str) -> Tensor:
    """Turn the first r channels of x (B, H, T, d); computed in float32, returned in x's dtype."""
    pairs = rotation.cos.shape[-1]
    turned, rest = x[..., : 2 * pairs], x[..., 2 * pairs :]
    if layout == "half":
        a, b = turned[..., :pairs], turned[..., pairs:]
    else:
        a, b = turned[..., 0::2], turned[..., 1::2]
    a, b = a * rotation.cos - b * rotation.sin, b * rotation.cos + a * rotation.sin
    out = torch.cat((a, b), -1) if layout == "half" else torch.stack((a, b), -1).flatten(-2)
    out = out.to(x.dtype)
    return out if rest.shape[-1] == 0 else torch.cat((out, rest), -1)

"""Rotation of pairs of channels, as used by every rotary scheme."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...precision import exact, exact_device


@dataclass(frozen=True)
class Rotation:
    """cos and sin of every position and pair, float32 (B|1, 1, T, r/2)."""

    cos: Tensor
    sin: Tensor

    def last(self, n: int) -> "Rotation":
        return Rotation(self.cos[:, :, -n:], self.sin[:, :, -n:])


def frequencies(base: float, channels: int, device: torch.device | None, step: int = 2) -> Tensor:
    """base^(-c / channels) for c = 0, step, 2 step, ...: float64 (channels / step,), radians per position.

    On a device without float64 the result is on the CPU, as `angles` expects.
    """
    exponent = torch.arange(0, channels, step, device=exact_device(device), dtype=torch.float64) / channels
    return base**-exponent


def angles(
    positions: Tensor, frequencies: Tensor, amplitude: float = 1.0, device: torch.device | None = None
) -> Rotation:
    """cos and sin of positions (B|1, T) times frequencies (r/2,), times `amplitude` (YaRN's m).

    device: of the result; None is that of the positions. The product is computed in float64, and only cos and sin are
    rounded: in float32 an angle near 100,000 is off by 0.004.
    """
    device = device or positions.device
    positions = exact(positions)
    angle = positions[:, None, :, None] * frequencies.to(positions.device).double()
    return Rotation((angle.cos() * amplitude).float().to(device), (angle.sin() * amplitude).float().to(device))


def rotate(x: Tensor, rotation: Rotation, layout: str) -> Tensor:
    """Rotate the first r channels of x (B, H, T, d); computed in float32, returned in the dtype of x."""
    pairs = rotation.cos.shape[-1]
    rotated, rest = x[..., : 2 * pairs], x[..., 2 * pairs :]
    if layout == "half":
        a, b = rotated[..., :pairs], rotated[..., pairs:]
    else:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
    a, b = a * rotation.cos - b * rotation.sin, b * rotation.cos + a * rotation.sin
    out = torch.cat((a, b), -1) if layout == "half" else torch.stack((a, b), -1).flatten(-2)
    out = out.to(x.dtype)
    return out if rest.shape[-1] == 0 else torch.cat((out, rest), -1)


class Scaling:
    """The hook of all context extensions, here the identity.

    Frequencies float64 (r/2,) and the tokens so far -> the frequencies to use, and the amplitude of cos and sin. The
    formulas are in model/extension.
    """

    def __call__(self, frequencies: Tensor, total_length: int) -> tuple[Tensor, float]:
        return frequencies, 1.0

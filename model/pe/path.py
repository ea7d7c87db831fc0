import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shape import Shape
from .base import Block, Context, PositionEncoding, TokenState, require

KEYS = 64  # keys per step; the logits do not depend on it


class Path(PositionEncoding):
    """PaTH (2505.16381): a product of Householder-like matrices, one per token between a key and a query.

        logits q_i H_i H_(i-1) ... H_(j+1) k_j / sqrt(d),     H_t = I - beta_t w_t w_t^T

        w = SiLU of a convolution over `conv` tokens of a map of rank `rank`, normalised;  beta = 2 sigmoid(u x + b)

    This is the direct form in O(T^2 d), meant for short sequences: a block of queries visits its keys from the last to
    the first, `KEYS` at a time, and is multiplied by their matrices on the way. The paper's kernels rewrite all cached
    keys at every new token. Here keys stay raw, and w and beta of each token are cached. Memory for inference is linear
    in T. This is PaTH without the forget gate; a composition with `fox` adds it (fla scales its gate by 1/sqrt(d),
    `fox` does not).
    """

    relative = True
    per_layer = True

    def __init__(self, shape: Shape, *, rank: int, conv: int):
        super().__init__(shape)
        require(rank >= 1, f"pe.rank={rank}: expected 1 or more.\nTry pe.rank=32")
        require(conv >= 1, f"pe.conv={conv}: the convolution covers at least the token itself.\nTry pe.conv=3")
        channels = shape.kv_heads * shape.head_dim
        self.down = nn.Linear(shape.width, rank, bias=False)
        self.up = nn.Linear(rank, channels, bias=False)
        self.taps = nn.Parameter(torch.empty(conv, channels))  # the token itself first
        self.beta = nn.Linear(shape.width, shape.kv_heads)

    def reset(self, generator: torch.Generator) -> None:
        for linear in (self.down, self.up, self.beta):
            nn.init.normal_(linear.weight, 0, linear.in_features**-0.5, generator=generator)
        nn.init.zeros_(self.beta.bias)
        bound = self.taps.shape[0] ** -0.5
        nn.init.uniform_(self.taps, -bound, bound, generator=generator)

    def token_state(self, x: Tensor) -> TokenState:
        """The inputs of the convolution (B, T, H_kv d) and beta (B, T, H_kv)."""
        with torch.autocast(x.device.type, enabled=False):
            beta = F.linear(x.float(), self.beta.weight.float(), self.beta.bias.float())
        return {"w": self.up(self.down(x)), "beta": 2 * beta.sigmoid()}

    def content_features(self, state: TokenState, context: Context) -> tuple[Tensor, Tensor]:
        """w and beta w of all tokens, float32 (B, H, T, d)."""
        x = state["w"].float()
        mixed = torch.zeros_like(x)
        for back, tap in enumerate(self.taps.float()):
            earlier = F.pad(x, (0, 0, back, 0))[:, : x.shape[1]]
            if context.documents is not None and back:  # the convolution stops at the start of a document
                same = context.documents[:, back:] == context.documents[:, :-back]
                earlier = earlier * F.pad(same, (back, 0))[..., None]
            mixed = mixed + tap * earlier
        w = F.normalize(F.silu(mixed).unflatten(-1, (self.shape.kv_heads, -1)), dim=-1)
        groups = self.shape.heads // self.shape.kv_heads
        w, beta = (y.repeat_interleave(groups, dim=2).transpose(1, 2) for y in (w, state["beta"][..., None]))
        return w, beta * w

    def scores(self, q: Tensor, k: Tensor, scale: float, block: Block) -> Tensor:
        first, n = block.rows.start - block.columns.start, k.shape[2]
        cuts = [slice(first, first + q.shape[2])]
        cuts += [slice(max(0, stop - KEYS), stop) for stop in range(first, 0, -KEYS)]
        with torch.autocast(q.device.type, enabled=False):
            q, k = q.float(), k.float()
            w, bw = (x[:, :, block.columns] for x in block.content)
            pieces = []
            for cut in cuts:
                s, q = apply_householders(q, *(x[:, :, cut] for x in (k, w, bw)), own=cut is cuts[0])
                pieces.insert(0, s)
            return F.pad(torch.cat(pieces, -1), (0, n - cuts[0].stop)) * scale


def apply_householders(q: Tensor, k: Tensor, w: Tensor, bw: Tensor, own: bool) -> tuple[Tensor, Tensor]:
    """Logits of queries and keys, and the queries multiplied by the matrices of these tokens, last token first.

    own: the tokens are the queries' own, so query r starts at token r. All (B, H, n, d); logits (B, H, tq, n).

    A product H_n ... H_1 is I - W^T A B W with B = diag(beta) and A the inverse of I + the part of B W W^T below the
    diagonal (the WY form). The product up to token j gives the logit of key j.
    """
    projections = q @ w.mT
    projections = torch.linalg.solve_triangular(
        (bw @ w.mT).tril(-1), projections.tril() if own else projections, upper=False, left=False, unitriangular=True
    )
    return q @ k.mT - projections @ (bw @ k.mT).tril(-1), q - projections @ bw

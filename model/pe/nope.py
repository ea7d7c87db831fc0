from .base import PositionEncoding


class Nope(PositionEncoding):
    """No position encoding (2203.16634, 2305.19466): order enters through the causal mask alone.

    Two layers can count with it, but only if the first token is distinct: on a constant sequence every position gives
    the same output.
    """

    relative = True

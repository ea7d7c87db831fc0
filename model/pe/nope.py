from .base import PositionEncoding


class Nope(PositionEncoding):
    """No position encoding (2203.16634, 2305.19466): only the causal mask carries information about order.

    Two layers can count with it, but only if the first token is distinct: on a constant sequence the outputs of all
    positions are equal.
    """

    relative = True

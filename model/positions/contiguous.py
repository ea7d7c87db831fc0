from .base import PositionPlan


class Contiguous(PositionPlan):
    """0, 1, 2, ...: the usual positions."""

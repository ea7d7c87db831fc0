from ..pe.base import PositionEncoding
from .base import Extension


class Unchanged(Extension):
    """The encoding as it was trained."""

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        return encoding

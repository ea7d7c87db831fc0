from ..pe.base import PositionEncoding
from .base import Extension


class Unchanged(Extension):
    """The encoding as trained."""

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        return encoding

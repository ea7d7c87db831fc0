"""The error that a user of the data side can cause and repair."""


class DataError(ValueError):
    """Bad options, missing or unreadable input; the message says what would have worked."""

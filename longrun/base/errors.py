"""Mistakes of the user's. The message says what is wrong (key=value), why, and what would have worked."""


class UserError(ValueError):
    """A request that cannot be carried out; commands print the message and exit with 2."""


class ConfigError(UserError):
    """A configuration that cannot be run."""


class DataError(UserError):
    """Bad data options, missing or unreadable input."""

class ConfigError(ValueError):
    """The user asked for something that cannot be run; the message names the key, the value and the remedy."""

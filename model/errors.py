class ModelError(ValueError):
    """A mistake in the options of a model or in its files. The message names the option or file and a remedy."""

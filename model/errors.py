class ModelError(ValueError):
    """The user asked the model for something it cannot do; the message names the option and the remedy."""

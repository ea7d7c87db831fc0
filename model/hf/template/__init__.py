"""Not imported by us: what is copied into an exported folder, beside the modules of `model` that it needs."""

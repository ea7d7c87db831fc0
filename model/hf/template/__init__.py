"""Files that are copied into an exported folder, besides the modules of `model` that it needs. Not imported here."""

"""The configuration: values in YAML, types in Python. Nothing in this package imports torch."""

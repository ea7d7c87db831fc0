"""Longrun's models: `from model import build, load`. Imported when first used, because torch takes its time."""


def __getattr__(name: str):
    if name in ("build", "load"):
        from . import factory

        return getattr(factory, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

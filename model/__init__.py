"""Longrun's models: `from model import build, load`. Loaded on first use, because torch takes seconds to import."""


def __getattr__(name: str):
    if name in ("build", "load"):
        from . import factory

        return getattr(factory, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

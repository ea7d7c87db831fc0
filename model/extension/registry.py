"""The extensions that can be selected with `extension=NAME`. Torch-free."""

from ..registry import Registry

extensions = Registry("extension", "extension")
names, options, resolve = extensions.names, extensions.options, extensions.resolve

"""The extensions that can be selected with `extension=NAME`. Torch-free."""

from typing import Any

from ..pe.registry import schemes
from ..registry import Registry

ADDED = ("window", "logn", "temperature", "ssmax", "head_scale")
REPLACING = ("rerope", "leaky_rerope", "self_extend", "dual_chunk", "lm_infinite", "streaming")
# Before add_component and replace_rope each of these was a scheme of its own. Run folders and checkpoints hold them.
RENAMED = {name: ("add_component", name) for name in ADDED}
RENAMED |= {name: ("replace_rope", name) for name in REPLACING} | {"drop": ("replace_rope", "nope")}
FORMER = {current: former for former, current in RENAMED.items()}

extensions = Registry("extension", "extension", parts=schemes, renamed=RENAMED)
names, options, resolve = extensions.names, extensions.options, extensions.resolve


def first_form(extension: Any) -> Any:
    """A resolved extension as it was written before add_component and replace_rope existed.

    The hash in the name of a run is taken of this form, so that runs of before are found again.
    """
    if isinstance(extension, list):
        return [first_form(part) for part in extension]
    if not isinstance(extension, dict):
        return extension
    options = {key: first_form(value) for key, value in extension.items()}
    former = FORMER.get((options.get("scheme", ""), options.get("part", "")))
    return options if former is None else {k: v for k, v in options.items() if k != "part"} | {"scheme": former}

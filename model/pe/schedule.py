from typing import Any

from ..registry import Part
from ..shape import Shape
from .base import PositionEncoding, require
from .registry import encodings_for


class Schedule(PositionEncoding):
    """A pattern of n encodings over the layers: layer l has entry l mod n.

        pattern = [window, window, window, nope]        layers 0, 1, 2 have a window, layer 3 full attention, and so on

    Equal entries are one object if the scheme shares its parameters between layers, so a learned table stays one table.

    pattern: names, or mappings with a name and options. The number of layers is a multiple of its length. A code that
    is added to the embedding acts before all layers and cannot be an entry: compose it with the schedule.
    """

    def __init__(self, shape: Shape, *, pattern: list[Part]):
        raise TypeError("Schedule is never built: `for_layers` returns the encodings of its pattern")

    @classmethod
    def for_layers(cls, shape: Shape, options: dict[str, Any]) -> list[PositionEncoding]:
        pattern = options["pattern"]
        n, layers = len(pattern), shape.layers
        require(n > 0, "pe.pattern=[]: a schedule needs at least one encoding.\nTry pe.pattern=[rope,nope]")
        near = max(n, round(layers / n) * n)
        lengths = ", ".join(str(m) for m in range(1, layers + 1) if layers % m == 0)
        require(
            layers % n == 0,
            f"model.layers={layers}: pe.pattern has {n} entries, and the pattern must end with the last layer.\n"
            f"Try model.layers={near}, or a pattern of length {lengths}",
        )
        built: list[tuple[Part, list[PositionEncoding]]] = []
        schedule = []
        for layer in range(layers):
            entry = pattern[layer % n]
            encodings = next((encodings for part, encodings in built if part == entry), None)
            if encodings is None:
                encodings = encodings_for(shape, entry)
                built.append((entry, encodings))
                require(
                    not encodings[0].overrides("embed"),
                    f"pe.pattern: {entry['name']} is added to the embedding, before all layers.\n"
                    f"Compose it with the schedule: pe=compose with parts {entry['name']} and the schedule",
                )
            schedule.append(encodings[layer])
        return schedule

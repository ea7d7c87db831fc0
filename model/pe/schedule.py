from typing import Any

from ..registry import Part
from ..shape import Shape
from .base import PositionEncoding, require
from .registry import encodings_for


class Schedule(PositionEncoding):
    """Which encoding acts in which layer: layer l has entry l mod n of a pattern of n encodings.

        pattern = [window, window, window, nope]        layers 0, 1, 2 see a window, layer 3 everything, and again

    Equal entries are one object wherever the scheme is one for the whole model, so a learned table stays one table.

    pattern: names, or mappings with a name and options. It repeats: the number of layers is a multiple of its length. A
    code that is added to the embedding acts before all layers and has no place in it: compose it with the
    schedule.
    """

    def __init__(self, shape: Shape, *, pattern: list[Part]):
        raise TypeError("a schedule is not an encoding: `for_layers` answers with those of its pattern")

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
        made: list[tuple[Part, list[PositionEncoding]]] = []
        chosen = []
        for layer in range(layers):
            entry = pattern[layer % n]
            known = next((encodings for part, encodings in made if part == entry), None)
            if known is None:
                known = encodings_for(shape, entry)
                made.append((entry, known))
                require(
                    not known[0].overrides("embed"),
                    f"pe.pattern: {entry['name']} is added to the embedding, which happens once and not in a layer.\n"
                    f"Put it beside the schedule: pe=compose with parts {entry['name']} and the schedule",
                )
            chosen.append(known[layer])
        return chosen

from typing import Any

from ..pe.base import PositionEncoding
from ..pe.compose import Composition, composed
from ..pe.registry import schemes
from ..positions.base import PositionPlan
from ..shape import Shape
from .base import Extension, as_extension


class AddComponent(Extension):
    """The trained encoding, whatever it is, composed with one more scheme.

    With `window` it is the windowed control: a scheme that does not beat its own windowed control has shown stability,
    not use of a longer context. `logn` and `temperature` sharpen the attention of long inputs; `ssmax` and `head_scale`
    have parameters and are meant for fine-tuning.

    part: the scheme, model/pe/<part>.py.  options: those of the scheme.
    """

    def __init__(self, shape: Shape, *, part: str, **options: Any):
        super().__init__(shape)
        self.scheme, self.options, self.contiguous = schemes.load(part), options, True

    def bind_position_plan(self, plan: PositionPlan) -> None:
        self.contiguous = plan.contiguous

    def component(self) -> PositionEncoding:
        with as_extension():
            component = self.scheme(self.shape, **self.options)
        return component if self.contiguous else component.by_token_index()

    def apply(self, encoding: PositionEncoding, length: int) -> PositionEncoding:
        component = self.component()
        with as_extension():
            return Composition(self.shape, [encoding, component])

    def extend_layers(self, encodings: list[PositionEncoding], length: int) -> list[PositionEncoding]:
        if self.component().per_layer:
            components = [self.component() for _ in encodings]
            with as_extension():
                return composed(self.shape, encodings, components)
        return super().extend_layers(encodings, length)

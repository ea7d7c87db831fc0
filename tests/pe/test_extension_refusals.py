"""Extensions that do not fit and options that make no sense are refused by name, with a remedy."""

import pytest
from extended_models import LONG, VOCABULARY, fitting, model
from rotary_reference import TRAIN_LENGTH

from model import build
from model.errors import ModelError
from model.extension.base import extended
from model.extension.registry import names, options

WRONG = {"pi": "alibi", "ntk": "fope", "yarn": "learned", "rerope": "xpos", "self_extend": "rerope", "drop": "t5"} | {
    "t5_rescale": "alibi",
    "alibi_rescale": "t5",
    "table_interpolation": "sinusoidal",
    "streaming": "nope",
    "resonance_yarn": "kerple_log",
}


@pytest.mark.parametrize(("name", "pe"), WRONG.items())
def test_what_does_not_fit_is_refused_by_name(name: str, pe: str) -> None:
    base = model(pe)
    kind = options(fitting(name))["scheme"] if fitting(name) in names() else fitting(name)
    said = rf"extension={'yarn_code' if name == 'resonance_yarn' else name} .*{pe.split('_')[0]}.*it is for .*{kind}"
    with pytest.raises(ModelError, match=said):
        extended(base, name, LONG)
    with pytest.raises(ModelError, match=said):
        extended(model({"name": "compose", "parts": [pe, "sink"]}), name, LONG)
    with pytest.raises(ModelError, match=said):
        build(VOCABULARY, TRAIN_LENGTH, pe=pe, extension=name, extension_length=LONG)


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        ("yearn", "extension.name=yearn.*Did you mean yarn"),
        ({"name": "ntk", "beta": 3.0}, "extension.beta=3.0: unknown option of ntk"),
        ({"name": "ntk", "factor": 0.5}, "extension.factor=0.5: .*1 or more"),
        ({"name": "ntk", "factor": "four"}, "extension.factor=four: expected float or null"),
        ({"name": "yarn", "alpha": 4.0, "beta": 2.0}, "extension.alpha=4.0 and extension.beta=2"),
        ({"name": "yarn", "ramp": "cosine"}, "extension.ramp=cosine: expected one of rotations, index"),
        ({"name": "dynamic_yarn", "factor": 4.0}, "extension.factor=4.0: a dynamic factor"),
        ({"name": "longrope", "long": [1.0, 2.0]}, r"extension.long=\[1.0, 2.0\]: .*each of the 8 pairs"),
        ({"name": "longrope", "short": [0.0] * 8}, "extension.short=.*positive"),
        ({"name": "window", "size": 0}, "extension.size=0: .*extension.size=128"),
        ({"name": "rerope", "window": 0}, "extension.window=0"),
        ({"name": "self_extend", "group": 0}, "extension.group=0: .*extension.group=8"),
        ({"name": "dual_chunk", "window": 0.9}, "extension.window=0.9: .*extension.size=0.75"),
        ({"name": "streaming", "sinks": 99}, "extension.sinks=99"),
        ({"name": "ntk_mixed", "power": 2.0}, "extension.power=2.0"),
        ({"name": "chain", "parts": []}, r"extension.parts=\[\]"),
        ({"name": "chain", "lengths": [3]}, r"extension.lengths=\[3\]"),
        ({"name": "temperature", "step": 0}, "extension.step=0"),
        ({"name": "logn", "length": 1}, "extension.length=1"),
    ],
    ids=str,
)
def test_bad_options_are_refused_with_a_remedy(extension: str | dict, said: str) -> None:
    with pytest.raises(ModelError, match=f"(?s){said}") as error:
        extended(model(), extension, LONG)
    assert "pe." not in str(error.value)
    assert len(str(error.value).splitlines()) <= 3

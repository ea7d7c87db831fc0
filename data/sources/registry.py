"""The text sources by name, and the checks of their options."""

from typing import Any

from longrun.base.errors import DataError

from ..options import CorpusOptions, check_keys, own_names, required_names
from ..registry import Registry, class_name, require_dataclass
from ..tokenizers.registry import create_trainer, tokenizers, trainer_name
from .base import Source

sources = Registry("sources", Source, methods=("state",), helpers=("base", "registry", "rows"))


def options_class(name: str) -> type[CorpusOptions]:
    """Return the dataclass of the options of a source. Raises DataError if its file is wrong."""
    options, file = sources.load(name).Options, f"data/sources/{name}.py"
    if not issubclass(options, CorpusOptions):
        raise DataError(
            f"{class_name(name)}.Options in {file} is not a subclass of CorpusOptions.\n"
            "Write class Options(CorpusOptions), with from ..options import CorpusOptions."
        )
    require_dataclass(options, file)
    return options


def create_source(options: dict[str, Any]) -> Source:
    """Create the source that the options describe. Raises DataError for all errors that need no text."""
    name = options.get("source")
    if name is None:
        raise missing("source")
    if name not in sources:
        raise DataError(f"data.source={name}: there is no data/sources/{name}.py.\n{sources.suggestion(name)}")
    known = options_class(name)
    check_keys(options, known)
    required = {"valid_fraction", "test_fraction", *sources.load(name).required}
    required |= {key for key in required_names(known) if key in own_names(known)}
    for key in sorted(required):
        if options.get(key) is None:
            raise missing(key)
    source = sources.load(name)(options)
    source.check_tokenizer()
    if trainer_name(options.get("tokenizer")) in tokenizers:
        create_trainer(options)
    check_fractions(options)
    source.check()
    return source


def missing(key: str) -> DataError:
    return DataError(f"data.{key} is missing.\nStart from one of configs/data/*.yaml, which set it.")


def check_fractions(options: dict[str, Any]) -> None:
    valid, test = options["valid_fraction"], options["test_fraction"]
    if not (0 <= valid <= 1 and 0 <= test <= 1 and valid + test <= 1 + 1e-9):
        raise DataError(
            f"data.valid_fraction={valid} and data.test_fraction={test} and their sum must lie in [0, 1].\n"
            "For example data.valid_fraction=0.05 data.test_fraction=0.1."
        )

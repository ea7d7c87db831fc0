"""The options of a corpus (the `data` config group): what there is, and what is refused before any text is read."""

from pathlib import Path

from longrun.base.errors import DataError
from longrun.base.suggest import suggest

from .sources.base import KINDS, Source
from .sources.code import Code, Stdlib
from .sources.hub import Hub
from .sources.rows import JsonLines, Parquet
from .sources.text import Text
from .sources.token_files import TokenFiles
from .tokenizers.base import FILE, SMALLEST_VOCABULARY

SOURCES: dict[str, type[Source]] = {
    "stdlib": Stdlib, "code": Code, "text": Text, "jsonl": JsonLines, "parquet": Parquet, "hub": Hub,
    "tokens": TokenFiles,
}  # fmt: skip
OPTIONS = (
    "name", "source", "path", "subset", "split", "documents", "text_field", "separator", "pattern", "bad_lines",
    "invalid_utf8", "token_type", "separator_id", "tokenizer", "vocab_size", "valid_fraction", "test_fraction", "cache",
)  # fmt: skip


def check(options: dict) -> None:
    """Raises DataError for everything that can be known about the options without reading text."""
    checked_source(options)


def checked_source(options: dict) -> Source:
    """The source that the options describe. Raises DataError."""
    for key in options:
        if key not in OPTIONS:
            near = suggest(str(key), OPTIONS)
            hint = f"Did you mean data.{near[0]}?" if near else f"Known: {', '.join(OPTIONS)}."
            raise DataError(f"data.{key}={options[key]!r} is not an option.\n{hint}")
    for key in needed(options):
        if options.get(key) is None:
            raise DataError(f"data.{key} is missing.\nStart from one of configs/data/*.yaml, which set it.")
    if options["source"] not in SOURCES:
        raise DataError(f"data.source={options['source']} is unknown.\nChoose one of {', '.join(SOURCES)}.")
    check_tokenizer(options)
    check_fractions(options)
    source = SOURCES[options["source"]](options)
    source.check()
    return source


def needed(options: dict) -> list[str]:
    source = options.get("source")
    keys = ["source", "valid_fraction", "test_fraction"]
    keys += ["tokenizer"] if source != "tokens" else []
    keys += ["vocab_size"] if options.get("tokenizer") == "bpe" else []
    keys += ["text_field"] if source in ("jsonl", "parquet", "hub") else []
    keys += ["pattern"] if source in ("text", "jsonl", "parquet", "tokens") else []
    return keys


def check_tokenizer(options: dict) -> None:
    given = options.get("tokenizer")
    if options["source"] == "tokens" and given in KINDS:
        raise DataError(
            f"data.tokenizer={given} makes tokens of text, and data.source=tokens has tokens already.\n"
            f"Set data.tokenizer=FOLDER to the one that wrote them, or data.vocab_size to how many ids there are."
        )
    if options["source"] != "tokens" and given not in KINDS:
        place = Path(str(given)).expanduser()
        if not (place.is_file() or (place / FILE).is_file()):
            near = suggest(str(given), KINDS)
            hint = f"Did you mean data.tokenizer={near[0]}?" if near else f"Name one, or a folder that holds a {FILE}."
            raise DataError(f"data.tokenizer={given} is neither {', '.join(KINDS)} nor a {FILE}.\n{hint}")
    if given == "bpe" and options["vocab_size"] < SMALLEST_VOCABULARY:
        raise DataError(
            f"data.vocab_size={options['vocab_size']} is too small: 256 bytes and the separator need "
            f"{SMALLEST_VOCABULARY}.\nFor example data.vocab_size=2048, or data.tokenizer=byte."
        )


def check_fractions(options: dict) -> None:
    valid, test = options["valid_fraction"], options["test_fraction"]
    if not (0 <= valid <= 1 and 0 <= test <= 1 and valid + test <= 1 + 1e-9):
        raise DataError(
            f"data.valid_fraction={valid} and data.test_fraction={test} and their sum must lie in [0, 1].\n"
            "For example data.valid_fraction=0.05 data.test_fraction=0.1."
        )

"""Reading of a tokenizer.json, written by Longrun or by others."""

import json
from pathlib import Path

from longrun.base.errors import DataError

from .alphabet import AlphabetTokenizer
from .base import FILE, SEPARATOR, SMALLEST_VOCABULARY, Tokenizer
from .byte import ByteTokenizer, byte_json
from .hf import load_hf_tokenizer
from .ids import MODEL, IdTokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer from a folder with a tokenizer.json, or from such a file under any name. Raises DataError."""
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        return _from_json(path, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = f"Name a folder that holds a {FILE}."
        if (path.parent / "tokenizer.model").is_file():
            hint = "Convert its tokenizer.model: AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)"
        raise DataError(f"{path} does not exist.\n{hint}") from None
    except DataError:
        raise
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} is not a byte-level BPE tokenizer with a {SEPARATOR} token ({error!r}).\n"
            f"Use a {FILE} that Longrun wrote."
        ) from error


def _from_json(path: Path, text: str) -> Tokenizer:
    if text == byte_json():
        return ByteTokenizer()
    description = json.loads(text)
    kind = description["model"].get("type")
    if kind not in ("BPE", MODEL) or all(token["content"] != SEPARATOR for token in description["added_tokens"]):
        return load_hf_tokenizer(path, text)
    if kind == MODEL:
        return IdTokenizer.from_json(text)
    tokenizer = Tokenizer(text)
    if tokenizer.vocab_size >= SMALLEST_VOCABULARY:
        return tokenizer
    return AlphabetTokenizer(b"".join(tokenizer.pieces).decode("ascii"))

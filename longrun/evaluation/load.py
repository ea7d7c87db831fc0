"""Load a model for its evaluation, with the data that it is evaluated on."""

from pathlib import Path
from typing import Any

from data.dataset import Dataset, prepare
from data.tokenizers.base import Tokenizer
from data.tokenizers.load import load_tokenizer
from longrun.runs.run_folder import RunFolder
from model import load
from model.errors import ModelError
from model.hf import load_hf
from model.transformer import Transformer

ALL_FOR_TESTING = {"valid_fraction": 0.0, "test_fraction": 1.0}


def load_run(folder: str | Path, data_options: dict[str, Any] | None = None) -> tuple[Transformer, Dataset]:
    """The model of a run folder and its own data.

    data_options: changes to the data options of the run. Of other text all documents are for testing, since the model
    was trained on none of them.
    Raises ModelError for a checkpoint of other data, unless `data_options` are given.
    """
    folder, changes = Path(folder), data_options or {}
    tokenizer = load_tokenizer(folder)
    data = prepare(_merge_options(RunFolder(folder).config()["data"], changes), tokenizer=tokenizer)
    required = {} if changes else {"data_fingerprint": data.fingerprint}
    return load(folder, tokenizer=tokenizer.digest, **required), data


def load_checkpoint(
    folder: str | Path, data_options: dict[str, Any], train_length: int | None = None
) -> tuple[Transformer, Dataset]:
    """The model of a Hugging Face folder and other data, of which all documents are for testing.

    train_length: the length that the model was trained at; None: that of its config.json.
    """
    tokenizer = load_tokenizer(Path(folder))
    data = prepare(data_options | _test_split(data_options), tokenizer=tokenizer)
    model = load_hf(folder, train_length)
    require_embeddings(model, tokenizer, folder)
    return model, data


def require_embeddings(model: Transformer, tokenizer: Tokenizer, folder: str | Path) -> None:
    """Raise ModelError if the tokenizer has ids without an embedding. (A model may have more embeddings: padding.)"""
    if tokenizer.vocab_size > model.vocab_size:
        raise ModelError(
            f"{folder}: its tokenizer has {tokenizer.vocab_size} ids, and its model has {model.vocab_size} embeddings."
            "\nUse the tokenizer.json that belongs to the model."
        )


def _merge_options(trained: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    options = (trained if changes.get("source", trained["source"]) == trained["source"] else {}) | changes
    other_text = any(options.get(key) != trained.get(key) for key in ("source", "path", "subset", "split"))
    return options | (_test_split(options) if other_text else {})


def _test_split(options: dict[str, Any]) -> dict[str, Any]:
    """Fractions that leave all documents to the test split; none for data without such options."""
    return ALL_FOR_TESTING if ALL_FOR_TESTING.keys() <= options.keys() else {}

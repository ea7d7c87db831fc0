"""Tokenizers as other libraries write them, trained on a sentence, and folders that hold them."""

import json
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

TEXT = "The cat, naïve as ever, sat on 12 mats;\n\n  then it left. 你好 café \U0001f600 <s> end"
SAMPLE = [TEXT, "the cat the mat the café then ever 12 mats left sat on"] * 20
MARK = "\u2581"


def folder(path: Path, library: tokenizers.Tokenizer, **files: dict) -> Path:
    path.mkdir(exist_ok=True)
    (path / "tokenizer.json").write_text(library.to_str(), encoding="utf-8")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def byte_level() -> tokenizers.Tokenizer:
    """As GPT-2's and Llama 3's: bytes as letters, <|endoftext|> at the ends, runs of spaces as tokens of their own."""
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator(SAMPLE, trainer)
    library.add_tokens(["   "])
    return library


def sentence_piece(prefix: bool = True) -> tokenizers.Tokenizer:
    """As Llama 2's: a mark for spaces, one in front of the text, bytes where no letter is known."""
    letters = sorted(set("abcdefghijklmnopqrstuvwxyzT,.;0123456789\n" + MARK) - {" "})
    words = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *letters,
        "th",
        "the",
        f"{MARK}the",
        "at",
    ]
    merges = [("t", "h"), ("th", "e"), (MARK, "the"), ("a", "t")]
    model = models.BPE({word: i for i, word in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True)
    library = tokenizers.Tokenizer(model)
    steps = ([normalizers.Prepend(MARK)] if prefix else []) + [normalizers.Replace(" ", MARK)]
    library.normalizer = normalizers.Sequence(steps)
    library.decoder = decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()])
    library.add_special_tokens(["<s>", "</s>"])
    return library


def unigram() -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(models.Unigram())
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    library.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    library.train_from_iterator(SAMPLE, trainer)
    return library

"""Ten times the text needs no more memory: every kind of file is read as a stream."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SMALL, LARGE = 20_000_000, 200_000_000  # bytes of text
# MB that the larger one may need beyond the smaller, where holding the text would take 180: lists of offsets, counts of
# words that a BPE is trained on, and what an allocator keeps (a BPE: 205 at 20 MB, 264 at 100 MB, 268 at 200 MB).
ALLOWED = 90
PREPARE = """
import json, re, sys
from data.corpus import prepare
corpus = prepare(json.loads(sys.argv[1]), progress=False)
peak = re.search(r"VmHWM:\\s*([0-9]+)", open("/proc/self/status").read())[1]  # getrusage would count the parent's
print(json.dumps([int(peak) / 1024,
                  sum(split["tokens"] for split in corpus.provenance["splits"].values())]))
"""


def texts(size: int) -> Iterator[str]:
    """Documents of about 2,000 bytes that are all different."""
    words = np.array(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "naïve"])
    rng = np.random.default_rng(0)
    while size > 0:
        for row in rng.integers(0, len(words), (500, 340)):
            text = " ".join(words[row]) + "\n"
            size -= len(text)
            yield text


def write(kind: str, folder: Path, size: int) -> dict:
    """A corpus of one file; what the options say beside its path."""
    path = folder / f"corpus.{kind}"
    if kind in ("text", "pieces"):
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"= {n} =\n{text}" for n, text in enumerate(texts(size)))
        return {"source": "text", "separator": "^= " if kind == "pieces" else None}
    if kind == "jsonl":
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts(size))
        return {"source": "jsonl"}
    if kind == "parquet":
        with pq.ParquetWriter(path, pa.schema({"text": pa.string()})) as writer:
            batch: list[str] = []
            for text in texts(size):
                batch.append(text)
                if len(batch) == 1000:
                    writer.write_table(pa.table({"text": batch}))
                    batch = []
        return {"source": "parquet"}
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(size // 2_000_000):
            file.write(rng.integers(0, 1000, 1_000_000).astype("<u2").tobytes())
    return {"source": "tokens", "vocab_size": 1000, "separator_id": 999, "tokenizer": None}


def peak(kind: str, folder: Path, size: int, tokenizer: str) -> tuple[float, int]:
    """Megabytes that preparing a corpus took at most, and how many tokens it has."""
    folder.mkdir()
    changes = write(kind, folder, size)
    values = yaml.safe_load((ROOT / "configs" / "data" / f"{changes['source']}.yaml").read_text())
    cache = {"path": str(folder / f"corpus.{kind}"), "cache": str(folder / "cache")}
    chosen = values | {"tokenizer": tokenizer, "vocab_size": 300} | changes | cache
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, json.dumps(chosen)], cwd=ROOT, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's count of memory")
@pytest.mark.parametrize(
    ("kind", "tokenizer"),
    [
        ("text", "byte"),
        ("text", "bpe"),
        ("pieces", "byte"),
        ("jsonl", "character"),
        ("parquet", "byte"),
        ("tokens", ""),
    ],
)
def test_memory_does_not_grow_with_the_text(kind: str, tokenizer: str, tmp_path: Path) -> None:
    small, few = peak(kind, tmp_path / "small", SMALL, tokenizer)
    large, many = peak(kind, tmp_path / "large", LARGE, tokenizer)
    print(f"{kind} {tokenizer}: {small:.0f} MB for {SMALL:,} bytes, {large:.0f} MB for {LARGE:,}")
    assert many > 9 * few
    assert large < small + ALLOWED

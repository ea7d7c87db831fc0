"""Data sets of the Hugging Face hub: streamed once into a parquet file in the cache, then read from there.

A download stops after `data.documents` documents, so a first trial on a corpus of terabytes costs megabytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from longrun.base.errors import DataError
from longrun.base.files import atomic_file

from ..documents import Document
from ..import_warnings import ImportWarnings
from ..options import CorpusOptions, TextOptions
from .base import Source
from .parquet import Parquet
from .rows import document_of, join_lines, text_of

_ROWS = 1000  # documents per row group
_SECONDS = 5.0  # timeout of the request that checks whether a data set exists


class Hub(Source):
    """`path` is the name of a data set, "Salesforce/wikitext", or a folder with a copy of one."""

    Options: ClassVar[type[CorpusOptions]] = TextOptions
    required: ClassVar[tuple[str, ...]] = ("tokenizer", "text_field")

    def check(self) -> None:
        path, split = self.options.get("path"), self.options.get("split")
        if not path or ("/" not in path and not Path(path).expanduser().is_dir()):
            raise DataError(
                f"data.path={path} is not the name of a data set on the hub, which has an owner and a name.\n"
                "For example data.path=roneneldan/TinyStories, or start from data=tinystories."
            )
        if not split:
            raise DataError("data.split is missing.\nName the part to read, for example data.split=train.")

    def state(self) -> Any:
        return [self.options.get(key) for key in ("path", "subset", "split", "documents")]

    def fetch(self, home: Path, report: Callable[[str], None]) -> None:
        """Download the data set unless `home` has it. Raises DataError within seconds if the hub cannot be reached."""
        recipe = [*self.state(), self.options["text_field"], self.options.get("separator")]
        key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
        self._file = home / "downloads" / f"{str(self.options['path']).strip('/').replace('/', '--')}-{key}.parquet"
        if self._file.is_file():
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        limit = self.options.get("documents")
        report(f"reading {self.options['path']} ({limit or 'all'} documents) into {self._file}")
        with atomic_file(self._file) as temporary:
            _store(islice(self._rows(), limit), temporary)

    def documents(self, warnings: ImportWarnings) -> Iterator[Document]:
        stored = {**self.options, "path": str(self._file), "text_field": "text", "separator": None}
        return Parquet(stored).documents(warnings)

    def _rows(self) -> Iterator[Document]:
        """Yield the documents in the order of the hub."""
        path, field = str(self.options["path"]), self.options["text_field"]
        local = Path(path).expanduser()
        if not local.is_dir():
            _require_reachable(path)
        from datasets import load_dataset

        try:
            rows = load_dataset(
                str(local) if local.is_dir() else path, self.options.get("subset"), split=self.options["split"],
                streaming=True,
            )  # fmt: skip
            texts = ((text_of(row, field, path), row) for row in rows)
            if separator := self.options.get("separator"):
                yield from (document_of(text, {}) for text in join_lines((text for text, _ in texts), separator))
            else:
                yield from (document_of(text, row) for text, row in texts)
        except DataError:
            raise
        except Exception as error:  # the library passes on the errors of its many transports and readers
            raise DataError(
                f"data.path={path} data.subset={self.options.get('subset')} data.split={self.options['split']} could "
                f"not be read: {_first_line(error)}.\nCheck these three on the data set's page, or use local files: "
                "data=parquet data.path=FOLDER."
            ) from error


def _store(documents: Iterable[Document], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema({"id": pa.string(), "text": pa.string()})
    documents = iter(documents)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(documents, _ROWS)):
            columns = [[_without_surrogates(d.name) for d in group], [_without_surrogates(str(d.text)) for d in group]]
            writer.write_table(pa.table(columns, schema))


def _without_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, which parquet cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _require_reachable(name: str) -> None:
    """Request the data set's description with a short timeout; `datasets` itself gives up after half a minute.

    Raises DataError if the data set does not exist, is gated, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(name, timeout=_SECONDS)
    except GatedRepoError:
        raise DataError(
            f"data.path={name} requires its users to accept its terms.\n"
            "Accept them on its page, then log in once on this machine: hf auth login."
        ) from None
    except RepositoryNotFoundError:
        raise DataError(
            f"data.path={name}: the hub has no such data set, or it is private.\n"
            "Check the name on the hub; for one of your own, log in once: hf auth login."
        ) from None
    except Exception as error:
        raise DataError(
            f"data.path={name} is on the Hugging Face hub, which cannot be reached: {_first_line(error)}.\n"
            "Without a network use local files, data=parquet data.path=FOLDER or data=text data.path=FILE, "
            "or data=stdlib."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

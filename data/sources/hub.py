"""Data sets of the Hugging Face hub, by name: streamed once into a parquet file of the cache, then read from there.

A download ends after `data.documents` documents, so a first trial on a corpus of terabytes costs megabytes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from longrun.base.errors import DataError
from longrun.base.files import atomic_file

from .base import Document, Source
from .notes import Notes
from .rows import Parquet, joined, named, text_of

_ROWS = 1000  # documents in a row group
_SECONDS = 5.0  # to answer whether a data set exists


class Hub(Source):
    """`path` is the name of a data set, "Salesforce/wikitext", or a folder with a copy of one."""

    def check(self) -> None:
        self.check_policies()
        path, split = self.options.get("path"), self.options.get("split")
        if not path or ("/" not in path and not Path(path).expanduser().is_dir()):
            raise DataError(
                f"data.path={path} is no name of a data set on the hub: those have an owner and a name.\n"
                "For example data.path=roneneldan/TinyStories, or start from data=tinystories."
            )
        if not split:
            raise DataError("data.split is missing.\nName the part to read, for example data.split=train.")

    def state(self) -> Any:
        return [self.options.get(key) for key in ("path", "subset", "split", "documents")]

    def fetch(self, home: Path, say) -> None:
        """Download what is not in `home` yet. Raises DataError within seconds when the hub cannot be reached."""
        kept = [*self.state(), self.options["text_field"], self.options.get("separator")]
        key = hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:16]
        self._file = home / "downloads" / f"{str(self.options['path']).strip('/').replace('/', '--')}-{key}.parquet"
        if self._file.is_file():
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        limit = self.options.get("documents")
        say(f"reading {self.options['path']} ({limit or 'all'} documents) into {self._file}")
        with atomic_file(self._file) as temporary:
            _store(islice(self._rows(), limit), temporary)

    @property
    def files(self) -> list[Path]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return [self._file]

    def documents(self, notes: Notes) -> Iterator[Document]:
        stored = {**self.options, "path": str(self._file), "text_field": "text", "separator": None}
        return Parquet(stored).documents(notes)

    def _rows(self) -> Iterator[Document]:
        """The documents as the hub has them, in its order."""
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
                yield from (named(text, {}) for text in joined((text for text, _ in texts), separator))
            else:
                yield from (named(text, row) for text, row in texts)
        except DataError:
            raise
        except Exception as error:  # the library raises what its dozen transports and readers raise
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
            columns = [[_whole(d.name) for d in group], [_whole(str(d.text)) for d in group]]
            writer.write_table(pa.table(columns, schema))


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which parquet cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _require_reachable(name: str) -> None:
    """One question with a limit of time; without it the library tries for half a minute before it gives up."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(name, timeout=_SECONDS)
    except GatedRepoError:
        raise DataError(
            f"data.path={name} asks its users to agree to its terms.\n"
            "Do so on its page, then log in once on this machine: hf auth login."
        ) from None
    except RepositoryNotFoundError:
        raise DataError(
            f"data.path={name}: the hub has no such data set, or you may not see it.\n"
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

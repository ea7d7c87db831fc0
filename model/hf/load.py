"""A folder that transformers wrote, as a model of ours: from config.json and safetensors, without running its code."""

import json
import re
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from ..checkpoint.state_dict import named_tensors
from ..errors import ModelError
from ..factory import build
from ..transformer import Transformer
from .config_reader import Settings
from .family import Family
from .read_config import describe, family_of
from .weight_map import Rule

INDEX = "model.safetensors.index.json"
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SHOWN = 12  # names in a message


class Weights:
    """The tensors of a folder by name, from one file or from shards with an index. Each is read when asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = self._indexed() if (folder / INDEX).is_file() else self._listed()

    def __getitem__(self, name: str) -> Tensor:
        path = self.folder / self.files[name]
        try:
            with safetensors.safe_open(path, framework="pt") as stream:
                tensor = stream.get_tensor(name)
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelError(f"{path}: {name} cannot be read ({error}).\nDownload it again.") from error
        if tensor.dtype not in DTYPES:
            raise ModelError(
                f"{self.folder}: {name} is stored as {tensor.dtype}, which is not a weight as it is.\n"
                "Use the unquantised checkpoint."
            )
        return tensor

    def _indexed(self) -> dict[str, str]:
        try:
            files = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            strange = [file for file in files.values() if Path(file).name != file]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{self.folder / INDEX} is not an index ({error!r}).\nDownload it again.") from error
        missing = sorted({file for file in files.values() if file in strange or not (self.folder / file).is_file()})
        if missing:
            raise ModelError(f"{self.folder} lacks {_first(missing)}, named by {INDEX}.\nDownload what is missing.")
        return files

    def _listed(self) -> dict[str, str]:
        files: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safetensors.safe_open(path, framework="pt") as stream:
                    files |= dict.fromkeys(stream.keys(), path.name)
            except (safetensors.SafetensorError, OSError) as error:
                raise ModelError(f"{path} cannot be read ({error}).\nDownload it again.") from error
        if not files:
            pickled = sorted(path.name for path in self.folder.glob("*.bin"))
            told = f", and {_first(pickled)} may hold code that runs when it is read" if pickled else ""
            raise ModelError(
                f"{self.folder} has no *.safetensors{told}.\n"
                "Convert it with transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)"
            )
        return files


def load_hf(
    folder: str | Path, train_length: int | None = None, dtype: torch.dtype | None = torch.float32
) -> Transformer:
    """The checkpoint in `folder` as a model of ours, in evaluation mode, on the CPU.

    train_length: as in `describe`.  dtype: of the parameters; None is that of the stored embedding.
    Raises ModelError for another kind of model, an equation that ours lacks, and tensors that are missing, left over
    or of another shape: all of them are named, and nothing is loaded in part.
    """
    folder = Path(folder)
    settings = Settings.read(folder)
    family, options = family_of(settings), describe(folder, train_length)
    weights = Weights(folder)
    with torch.device("meta"):
        network = build(**options)
    sources = matched(network, family, weights)
    if dtype is None:
        dtype = weights[sources["embedding.weight"][0][0]].dtype
    network = network.to(dtype).to_empty(device="cpu")
    fill(network, sources, weights)
    return network.eval()


def matched(network: Transformer, family: Family, weights: Weights) -> dict[str, tuple[list[str], Rule]]:
    """For each of our tensors the stored ones that it is made of. Raises ModelError unless all are used, once."""
    sources, missing = {}, []
    for name in named_tensors(network):
        rule = family.rule(name)
        assert rule is not None, f"{family.model_type} has no rule for {name}"
        found = [stored_as(name, rule, family, weights) for name in rule.names]
        missing += [wanted for wanted, name in zip(rule.names, found, strict=True) if name is None]
        sources[name] = ([name for name in found if name is not None], rule)
    used = {name for names, _ in sources.values() for name in names}
    unused = [name for name in weights.files if name not in used and not _ignored(name, family)]
    unused = [name for name in unused if not repeats_embedding(name, network, family, sources, weights)]
    problems = [f"missing: {_first(missing)}"] if missing else []
    problems += [f"with no place in our model: {_first(unused)}"] if unused else []
    if problems:
        about = f"{weights.folder}: its tensors are not those of a {family.model_type}."
        raise ModelError("\n".join([about, *problems]))
    return sources


def stored_as(wanted: str, rule: Rule, family: Family, weights: Weights) -> str | None:
    """The name that a tensor has in this folder, None if it is not there."""
    names = [wanted, wanted.removeprefix(family.prefix), getattr(rule, "also", None)]
    return next((name for name in names if name in weights.files), None)


def repeats_embedding(name: str, network: Transformer, family: Family, sources: dict, weights: Weights) -> bool:
    """Whether it is the output layer of a model whose output layer is its embedding, stored a second time.

    Raises ModelError if it is not the embedding after all.
    """
    head = family.rule("head.weight")
    if network.head is not None or head is None or stored_as(head.names[0], head, family, weights) != name:
        return False
    if not torch.equal(weights[name], weights[sources["embedding.weight"][0][0]]):
        raise ModelError(
            f"{weights.folder}: tie_word_embeddings is true, and {name} is not the embedding.\n"
            'If it is the output layer, write "tie_word_embeddings": false into config.json'
        )
    return True


@torch.no_grad()
def fill(network: Transformer, sources: dict[str, tuple[list[str], Rule]], weights: Weights) -> None:
    wrong = []
    for name, tensor in named_tensors(network).items():
        names, rule = sources[name]
        try:
            made = rule.load([weights[name] for name in names], network.shape)
        except RuntimeError:  # rows that do not divide into heads, tensors that cannot be stacked
            made = None
        if made is None or made.shape != tensor.shape:
            has = "of other sizes" if made is None else f"makes {tuple(made.shape)}"
            wrong.append(f"{', '.join(names)}: {has}, and our {name} is {tuple(tensor.shape)}")
        else:
            tensor.copy_(made)
    if wrong:
        about = f"{weights.folder}: tensors do not have the sizes of config.json."
        raise ModelError("\n".join([about, *wrong[:SHOWN]]))


def _ignored(name: str, family: Family) -> bool:
    return any(re.search(pattern, name) for pattern in family.ignored)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

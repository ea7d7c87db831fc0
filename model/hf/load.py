"""Load a folder written by transformers, from config.json and safetensors, without running its code."""

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
from .config_reader import HFConfig
from .family import Family
from .read_config import describe, family_of
from .weight_map import Rule

INDEX = "model.safetensors.index.json"
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SHOWN = 12  # names listed in a message


class Weights:
    """The tensors of a folder by name, from one file or from shards with an index. Each is read on access."""

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
                f"{self.folder}: {name} is stored as {tensor.dtype}, which is not a plain weight.\n"
                "Use the unquantised checkpoint."
            )
        return tensor

    def _indexed(self) -> dict[str, str]:
        try:
            files = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            outside = [file for file in files.values() if Path(file).name != file]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{self.folder / INDEX} is not an index ({error!r}).\nDownload it again.") from error
        missing = sorted({file for file in files.values() if file in outside or not (self.folder / file).is_file()})
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
            warning = f", and {_first(pickled)} may hold code that runs when it is read" if pickled else ""
            raise ModelError(
                f"{self.folder} has no *.safetensors{warning}.\n"
                "Convert it with transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)"
            )
        return files


def load_hf(
    folder: str | Path, train_length: int | None = None, dtype: torch.dtype | None = torch.float32
) -> Transformer:
    """The checkpoint in `folder` as a Longrun model, in evaluation mode, on the CPU.

    train_length: as in `describe`.  dtype: of the parameters; None is that of the stored embedding. Raises ModelError
    for another kind of model, for an equation that Longrun does not implement, and for tensors that are missing, left
    over or of another shape. The message lists all of them, and nothing is loaded in part.
    """
    folder = Path(folder)
    config = HFConfig.read(folder)
    family, options = family_of(config), describe(folder, train_length)
    weights = Weights(folder)
    with torch.device("meta"):
        network = build(**options)
    sources = match_tensors(network, family, weights)
    if dtype is None:
        dtype = weights[sources["embedding.weight"][0][0]].dtype
    network = network.to(dtype).to_empty(device="cpu")
    copy_weights(network, sources, weights)
    return network.eval()


def match_tensors(network: Transformer, family: Family, weights: Weights) -> dict[str, tuple[list[str], Rule]]:
    """The stored tensors of each of our tensors. Raises ModelError unless every stored tensor is used once."""
    sources, missing = {}, []
    for name in named_tensors(network):
        rule = family.rule(name)
        assert rule is not None, f"{family.model_type} has no rule for {name}"
        stored = {name: stored_name(name, rule, family, weights) for name in rule.names}
        missing += [name for name, match in stored.items() if match is None]
        sources[name] = ([match for match in stored.values() if match is not None], rule)
    used = {name for names, _ in sources.values() for name in names}
    unused = [name for name in weights.files if name not in used and not _ignored(name, family)]
    unused = [name for name in unused if not is_tied_head(name, network, family, sources, weights)]
    problems = [f"missing: {_first(missing)}"] if missing else []
    problems += [f"not part of the model: {_first(unused)}"] if unused else []
    if problems:
        about = f"{weights.folder}: its tensors are not those of a {family.model_type}."
        raise ModelError("\n".join([about, *problems]))
    return sources


def stored_name(name: str, rule: Rule, family: Family, weights: Weights) -> str | None:
    """The name of a tensor in this folder, None if it is missing."""
    names = [name, name.removeprefix(family.prefix), getattr(rule, "also", None)]
    return next((candidate for candidate in names if candidate in weights.files), None)


def is_tied_head(name: str, network: Transformer, family: Family, sources: dict, weights: Weights) -> bool:
    """Return whether a tensor is the output layer of a model with tied embeddings, stored a second time.

    Raises ModelError if it differs from the embedding.
    """
    head = family.rule("head.weight")
    if network.head is not None or head is None or stored_name(head.names[0], head, family, weights) != name:
        return False
    if not torch.equal(weights[name], weights[sources["embedding.weight"][0][0]]):
        raise ModelError(
            f"{weights.folder}: tie_word_embeddings is true, and {name} is not the embedding.\n"
            'If it is the output layer, write "tie_word_embeddings": false into config.json'
        )
    return True


@torch.no_grad()
def copy_weights(network: Transformer, sources: dict[str, tuple[list[str], Rule]], weights: Weights) -> None:
    wrong = []
    for name, tensor in named_tensors(network).items():
        names, rule = sources[name]
        try:
            converted = rule.load([weights[name] for name in names], network.shape)
        except RuntimeError:  # rows that do not divide into heads, tensors that cannot be concatenated
            converted = None
        if converted is None or converted.shape != tensor.shape:
            sizes = "of other sizes" if converted is None else f"makes {tuple(converted.shape)}"
            wrong.append(f"{', '.join(names)}: {sizes}, and our {name} is {tuple(tensor.shape)}")
        else:
            tensor.copy_(converted)
    if wrong:
        about = f"{weights.folder}: tensors do not have the sizes of config.json."
        raise ModelError("\n".join([about, *wrong[:SHOWN]]))


def _ignored(name: str, family: Family) -> bool:
    return any(re.search(pattern, name) for pattern in family.ignored)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

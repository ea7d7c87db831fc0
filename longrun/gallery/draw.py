"""Drawing the gallery: a picture per scheme, the pictures of the ideas, and the page that shows them."""

from pathlib import Path

import torch

from longrun.gallery.concepts import CONCEPTS
from longrun.gallery.page import page
from longrun.gallery.panels import portrait_figure, save
from longrun.gallery.probe import picture_key, portrait
from model.pe.registry import names, schemes


def draw_gallery(folder: Path) -> int:
    """Draw everything into `folder`, and the page beside it (`folder`.md). Returns the number of its pictures."""
    pictures = draw_schemes(folder, names())
    for name, draw in CONCEPTS.items():
        save(draw(), folder / f"{name}.png")
    folder.with_suffix(".md").write_text(page(pictures, CONCEPTS), encoding="utf-8")
    return len(set(pictures.values()))


def draw_schemes(folder: Path, selected: list[str]) -> dict[str, str]:
    """Draw each scheme; returns name -> path of its picture, relative to the page.

    Schemes with equal options share a picture, named after the file in model/pe if that is among them.
    """
    torch.set_num_threads(1)  # the tensors are too small for more
    drawn: dict[str, str] = {}
    pictures = {}
    for name in sorted(selected, key=lambda name: name != schemes.options(name)["scheme"]):
        key = picture_key(name)
        if key not in drawn:
            save(portrait_figure(portrait(name)), folder / f"{name}.png")
            drawn[key] = f"{folder.name}/{name}.png"
        pictures[name] = drawn[key]
    return pictures

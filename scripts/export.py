"""python -m scripts.export run=<run folder> to=<folder>: a trained model as a folder that transformers loads.

If transformers has a class with the same equations (Llama, Qwen3, SmolLM3, GPT-2, ...), the folder is one of that
class; otherwise it contains its code and is loaded with trust_remote_code=True. The tokenizer is included. If
transformers is installed, both models are run and compared.
"""

import sys

from longrun.config.cli import guarded
from longrun.config.run_arguments import read, usage
from longrun.export import DEFAULTS, ExportConfig, export


def main(words: list[str]) -> int:
    if {"--help", "-h"} & set(words):
        print(usage("python -m scripts.export run=FOLDER to=FOLDER [key=value ...]", ExportConfig, DEFAULTS))
        return 0
    for message in export(read(words, ExportConfig, DEFAULTS, "run=runs/NAME to=FOLDER")):
        print(message)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))

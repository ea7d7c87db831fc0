"""python -m scripts.generate run=<run folder> prompt="..." [key=value ...]: text from a trained model.

Stops at `length` new tokens or where the model ends the document.
"""

import sys

from longrun.config.cli import guarded
from longrun.config.run_arguments import read, usage
from longrun.generate import DEFAULTS, GenerateConfig, generate_samples


def main(words: list[str]) -> int:
    if {"--help", "-h"} & set(words):
        print(usage("python -m scripts.generate run=FOLDER prompt='...' [key=value ...]", GenerateConfig, DEFAULTS))
        return 0
    config = read(words, GenerateConfig, DEFAULTS, "run=FOLDER prompt='def main():'", texts=("prompt",))
    for number, pieces in enumerate(generate_samples(config), start=1):
        if config.samples > 1:
            print(f"--- {number} of {config.samples}")
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))

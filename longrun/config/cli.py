"""The command line of `train.py` and `eval.py`: compose with Hydra, check all keys, and only then import torch.

    if __name__ == "__main__":
        from longrun.config.cli import run

        run("train", "train:main")

Exit codes: 0 done, 2 refused (a short message, nothing created), 1 a bug (with its traceback), 130 Ctrl-C.
"""

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from longrun.base.errors import ConfigError, UserError
from longrun.config import cross_checks, schema
from model.errors import ModelError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # reported without a traceback: not a bug


@dataclass
class Entry:
    """One of the two programs: its schema, and the function from plain values to a checked configuration."""

    schema: Any
    check: Callable[[dict[str, Any]], Any]


ENTRIES = {
    "train": Entry(schema.TrainConfig, cross_checks.train_config),
    "eval": Entry(schema.EvalRunConfig, cross_checks.eval_config),
}


def run(config_name: str, main: str, arguments: list[str] | None = None) -> NoReturn:
    """Run the program and leave the process with its exit code.

    config_name: "train" or "eval".
    main: "module:function", imported after every check has passed and called with the checked configuration. It
        returns the exit code (None = 0).
    """
    words = sys.argv[1:] if arguments is None else arguments
    code = guarded(lambda: dispatch(config_name, main, words))
    if "RANK" in os.environ:
        exit_rank(code)
    sys.exit(code)


def exit_rank(code: int) -> NoReturn:
    """Exit without interpreter shutdown: a gloo thread aborted 2 of 40 finished runs at exit (torch 2.13, "terminate
    called without an active exception"), and torchrun reported them as failed.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def guarded(work: Callable[[], int | None]) -> int:
    """The exit code of `work()`. Errors are printed to stderr."""
    try:
        return work() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in DISK_FULL:
            traceback.print_exc()
        elif os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        message = user_message(error)
        if message is None:
            traceback.print_exc()
            return 1
        if os.environ.get("RANK", "0") == "0":  # one message for all ranks of torchrun
            print(f"error: {message}", file=sys.stderr)
        return 2


def user_message(error: Exception) -> str | None:
    """The message for a mistake of the user; None for a bug."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, UserError | ModelError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        lines = [line for line in str(error).splitlines() if line.strip()]
        cause = f"\n{error.__cause__}".splitlines()[:2] if error.__cause__ else []
        return "\n".join(dict.fromkeys([*lines[:4], *filter(None, cause)]))
    return None


def dispatch(config_name: str, main: str, words: list[str]) -> int | None:
    """Carry out a command line: print the help, start a sweep or launch one run. Returns the exit code."""
    if {"--help", "-h"} & set(words):
        from longrun.config.help import text

        print(text(config_name))
        return 0
    from longrun.config.compose import compose, parse

    arguments = parse(words)
    if arguments.multirun:
        refuse_sweep(config_name)
        if arguments.cfg or arguments.info:
            raise ConfigError("--cfg and --info show one run, and -m starts several.\nLeave -m out, and the lists")
    composed = compose(
        config_name, ENTRIES[config_name].schema, arguments, lambda values: launch(config_name, main, values)
    )
    return launch(config_name, main, composed) if composed is not None else 0


def launch(config_name: str, main: str, values: dict[str, Any]) -> int | None:
    """Check the composed values, then import the program and call it with the checked configuration."""
    config = ENTRIES[config_name].check(values)
    if config_name == "train":
        from longrun.runs.run_folder import RunFolder

        folder = RunFolder.of(config)
        if folder.finished:
            print(f"{folder.path} is finished: nothing to do. For another run change the seed or root.")
            return 0
        if os.environ.get("RANK", "0") == "0":  # the rank that holds the lock
            folder.check_free()
    module, function = main.split(":")
    return getattr(importlib.import_module(module), function)(config)


def refuse_sweep(config_name: str) -> None:
    """Raise ConfigError where -m makes no sense: for eval.py, and inside torchrun."""
    if config_name != "train":
        raise ConfigError(
            f"{config_name}.py measures one model at a time.\n"
            f"Try for run in runs/*/; do python {config_name}.py run=$run; done"
        )
    if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "-m does not work inside torchrun: every process would run its own sweep.\n"
            "The sweep can start torchrun for each job instead: python train.py -m launch.nproc=2 ..."
        )

"""train.py with a fault: the environment variable FAULT holds "<kind>:<rank>:<step>,<step>... <kind>:..."

    loss        that rank's loss is NaN at these steps (counted from 0)
    gradient    one element of one gradient is (not under FSDP, which replaces the parameters)
    kill        the rank kills itself with SIGKILL at the start of a step's computing, once
    hang        it stops (SIGSTOP), once: it answers nothing, SIGTERM included
    skip        no fault: the update of these steps is left out, on every rank; what the others are compared with
    wandb       no step: wandb's `log` raises

Faults come through torch's own hooks and signals. The program itself is the real one.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if __name__ == "__main__":
    from longrun.config.cli import run

    run("train", "faulty_training:main")


import train


def main(config):
    real = train.set_up

    def set_up(config, ranks, found):
        trainer = real(config, ranks, found)
        for fault in os.environ.get("FAULT", "").split():
            kind, rank, steps = fault.split(":")
            if kind == "skip" or int(rank) == ranks.rank:
                KINDS[kind](trainer, {int(step) for step in steps.split(",") if step})
        return trainer

    train.set_up = set_up
    return train.main(config)


def loss(trainer, steps):
    def hook(module, inputs, output):
        return output * float("nan") if trainer.progress.step in steps else None

    trainer.wrapped.register_forward_hook(hook)


def gradient(trainer, steps):
    def hook(grad):
        if trainer.progress.step in steps:
            grad = grad.clone()
            grad.view(-1)[-1] = float("nan")
        return grad

    next(trainer.model.layers.parameters()).register_hook(hook)


def send(number):
    def install(trainer, steps):
        begun = []

        def hook(module, inputs):
            begun.append(trainer.progress.step)
            if begun[-1] in steps and begun[0] < begun[-1]:  # not again where it resumes
                os.kill(os.getpid(), number)

        trainer.wrapped.register_forward_pre_hook(hook)

    return install


def skip(trainer, steps):
    update = trainer.optimizer.step
    trainer.optimizer.step = lambda: None if trainer.progress.step in steps else update()


def wandb(trainer, steps):
    from wandb import Run

    def log(self, *args, **kwargs):
        raise RuntimeError("no space on the server")

    Run.log = log


KINDS = {
    "loss": loss,
    "gradient": gradient,
    "kill": send(signal.SIGKILL),
    "hang": send(signal.SIGSTOP),
    "skip": skip,
    "wandb": wandb,
}

"""A program for the signal test: `torchrun signalled.py FOLDER RANK` trains, and SIGTERM reaches one process alone.

It comes after the processes have agreed whether to stop at an update, and before they do so at the next one.
"""

import os
import signal
import sys

import torch
from train.tiny import tiny_recipe

from mlpzoo.tasks import train
from mlpzoo.train import Stopped, Task
from mlpzoo.train.loop import Trainer


def main(folder: str, rank: int) -> None:
    torch.set_num_threads(1)
    Task.illustrate = lambda *_: None
    log = Trainer._log

    def log_and_signal(trainer, *arguments):
        log(trainer, *arguments)
        if trainer.step == 5 and trainer.accelerator.process_index == rank:
            os.kill(os.getpid(), signal.SIGTERM)

    Trainer._log = log_and_signal
    try:
        train(tiny_recipe("run.checkpoint_every=100"), folder, device="cpu", progress=False)
    except Stopped as stopped:
        print(f"rank {os.environ['RANK']}: {stopped}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

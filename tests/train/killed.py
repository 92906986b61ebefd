"""A program for the kill test: train in a child that is killed again and again, until enough is enough.

`python killed.py FOLDER KILLS SEED`. Forking from a process that has everything imported takes milliseconds, where a
new one would take seconds.
"""

import os
import random
import signal
import sys
import time
import traceback

import torch
from train.tiny import tiny_recipe

from mlpzoo.tasks import train
from mlpzoo.train import Task

CHANGES = [
    "schedule.updates=120",
    "run.checkpoint_every=5",
    "run.validate_every=2.5",
    "run.ema_decay=0.99",
    "run.accumulate=2",
    "augment.mixup=0.4",
    "augment.cutmix=0.4",
    "model.options.drop_path_rate=0.2",
    "optimizer.clip_norm=1.0",
]


def main(folder: str, kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    # Pictures take longer than the training.
    Task.illustrate = lambda *_: None
    generator = random.Random(seed)
    killed = 0
    while True:
        child = os.fork()
        if child == 0:
            try:
                train(tiny_recipe(*CHANGES), folder, device="cpu", progress=False)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        if killed < kills:
            # Some die before they have begun, some while they write a checkpoint, most in the middle of training.
            time.sleep(generator.uniform(0.02, 0.5))
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == -signal.SIGKILL:
            killed += 1
            continue
        print(f"killed {killed} times, ended with {status}")
        sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

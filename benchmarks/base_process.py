"""Runs models and ops of another commit as `base.py` asks for them, one pickled call a request.

mlpzoo is imported from that commit, what times it from this one: old commits are measured as new ones are.
"""

import importlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any


class Server:
    """Answers requests.

    Args:
        tree: the other commit's files.
        threads: CPU threads of PyTorch.
    """

    def __init__(self, tree: Path, threads: int) -> None:
        # Whoever is imported first stays: mlpzoo from there, the benchmarks from here.
        sys.path[0] = str(tree)
        self.mlpzoo = importlib.import_module("mlpzoo")
        sys.path[0] = str(Path(__file__).resolve().parents[1])
        if not Path(self.mlpzoo.__file__).is_relative_to(tree):
            raise ImportError("mlpzoo is not in that commit")
        self.torch = importlib.import_module("torch")
        self.trials = importlib.import_module("benchmarks.trial")
        self.op_trials = importlib.import_module("benchmarks.op_trial")
        self.clocks = importlib.import_module("benchmarks.measure").SECONDS
        self.torch.set_num_threads(threads)

    def check(self, model: str, options: dict[str, Any]) -> None:
        """Build a model without memory."""
        self.mlpzoo.create_model(model, device="meta", **options)

    def open_model(self, model: str, options: dict[str, Any], state: dict[str, Any], how: dict[str, Any]) -> None:
        """Make a model's trial, which the following requests are about."""
        self.trial: Any = None
        with self.torch.device("meta"):
            network = self.mlpzoo.create_model(model, **options)
        network.load_state_dict(state, assign=True)
        self.trial = self.trials.Contender(model=network).trial(**how)
        self.seconds = self.clocks[how["device"]]

    def open_op(self, op: str, arguments: Any, how: dict[str, Any]) -> None:
        """Make an op's trial, which the following requests are about."""
        self.trial = None
        self.trial = self.op_trials.OpTrial(getattr(self.mlpzoo.ops, op), arguments, **how)
        self.seconds = self.clocks[how["device"]]

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the trial."""
        return getattr(self.trial, method)(*arguments)

    def values(self) -> dict[str, Any]:
        """Run a step; its values, on the CPU."""
        return {name: value.cpu() for name, value in self.trial.values().items()}

    def repeat(self, number: int) -> None:
        """Let a step make so many calls."""
        self.trial.repeats = number

    def time(self) -> float:
        """Seconds of a step."""
        self.trial.prepare()
        seconds = self.seconds(self.trial.step)
        self.trial.reset()
        return seconds


def main(tree: Path, threads: int) -> None:
    """Answer until no request comes any more."""
    # What libraries print must not come between the answers.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server: Any = None
    request: Any = ("__init__", ())
    while request:
        try:
            if server is None:
                server = Server(tree, threads)
                answer: Any = (None, None)
            else:
                answer = (None, getattr(server, request[0])(*request[1]))
        except Exception as error:
            lines = str(error).splitlines() or [""]
            answer = (type(error).__name__, f"{type(error).__name__}: {lines[0]}")
        pickle.dump(answer, replies)
        replies.flush()
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            request = None


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))

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

    def open_model(self, how: dict[str, Any], model: str, options: dict[str, Any], state: dict[str, Any]) -> None:
        """Make a model's trial, which the following requests are about."""
        self.trial: Any = None
        with self.torch.device("meta"):
            network = self.mlpzoo.create_model(model, **options)
        network.load_state_dict(state, assign=True)
        self.trial = self.trials.Contender(model=network).trial(**how)

    def open_op(self, how: dict[str, Any], op: str, arguments: Any) -> None:
        """Make an op's trial, which the following requests are about."""
        self.trial = None
        self.trial = self.op_trials.OpTrial(getattr(self.mlpzoo.ops, op), arguments, **how)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the trial."""
        return getattr(self.trial, method)(*arguments)

    def values(self) -> dict[str, Any]:
        """Run a step; its values, on the CPU."""
        return {name: value.cpu() for name, value in self.trial.values().items()}

    def seconds(self, device: str) -> float:
        """Seconds of a step."""
        return self.trial.seconds(self.clocks[device])


def main(tree: Path, threads: int) -> None:
    """Answer until no request comes any more."""
    # What libraries print must not come between the answers.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server: Any = None
    while True:
        try:
            if server is None:
                server = Server(tree, threads)
                answer: Any = (None, None)
            else:
                method, arguments = pickle.load(sys.stdin.buffer)
                answer = (None, getattr(server, method)(*arguments))
        except EOFError:
            return
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            answer = (type(error).__name__, f"{type(error).__name__}: {first_line}")
        pickle.dump(answer, replies)
        replies.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))

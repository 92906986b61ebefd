"""Runs models and ops of another commit as `base.py` asks for them, one line of JSON a request.

mlpzoo is imported from that commit, what times it from this one: old commits are measured as new ones are.
"""

import functools
import importlib
import json
import os
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
        self.tree = tree
        # Whoever is imported first stays: mlpzoo from there, the benchmarks from here.
        sys.path[0] = str(tree)
        self.mlpzoo = importlib.import_module("mlpzoo")
        sys.path[0] = str(Path(__file__).resolve().parents[1])
        if not Path(self.mlpzoo.__file__).is_relative_to(tree):
            raise ImportError("mlpzoo is not in that commit")
        self.torch = importlib.import_module("torch")
        self.trials = importlib.import_module("benchmarks.trial")
        self.op_trials = importlib.import_module("benchmarks.op_trial")
        self.instruments = importlib.import_module("benchmarks.instruments")
        self.torch.set_num_threads(threads)

    def check(self, model: str, options: dict[str, Any]) -> None:
        """Build a model without memory."""
        self.mlpzoo.create_model(model, device="meta", **_tuples(options))

    def open(self, file: str) -> None:
        """Make the trial that the following requests are about."""
        sent = self.torch.load(file, weights_only=True)
        self.trial: Any = None
        self.device = sent["how"]["device"]
        if "op" in sent:
            tensors = {
                name: (flat, self.op_trials.Layout(tuple(shape), tuple(stride)))
                for name, (flat, shape, stride) in sent["tensors"].items()
            }
            arguments = self.op_trials.Arguments(tensors, sent["settings"], sent["gradient"])
            self.trial = self.op_trials.OpTrial(getattr(self.mlpzoo.ops, sent["op"]), arguments, **sent["how"])
        else:
            with self.torch.device("meta"):
                model = self.mlpzoo.create_model(sent["model"], **sent["options"])
            model.load_state_dict(sent["state"], assign=True)
            self.trial = self.trials.Contender(model=model).trial(**sent["how"])

    def feed(self, file: str) -> None:
        """Give the trial its images."""
        self.trial.feed(*self.torch.load(file, weights_only=True))

    def repeat(self, number: int) -> None:
        """Let a step make so many calls."""
        self.trial.repeats = number

    def values(self) -> str:
        """Run a step; the file where its values are."""
        file = self.tree.parent / "found.pt"
        self.torch.save(self.trial.values(), file)
        return str(file)

    def time(self) -> float:
        """Seconds of a step."""
        self.trial.prepare()
        seconds = self.instruments.SECONDS[self.device](self.trial.step)
        self.trial.reset()
        return seconds

    def peak(self) -> float:
        """Most GPU memory of a step, in 10⁶ bytes."""
        return self.trial.peak_cuda_mb()


def answer(request: Any) -> dict[str, Any]:
    """The result of a call, or in one line why there is none."""
    try:
        return {"result": request()}
    except Exception as error:
        lines = str(error).splitlines() or [""]
        return {"error": type(error).__name__, "message": f"{type(error).__name__}: {lines[0]}"}


def main(tree: Path, threads: int) -> None:
    """Answer until nobody asks any more."""
    # What libraries print must not come between the answers.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    server: Any = None

    def start() -> None:
        nonlocal server
        server = Server(tree, threads)

    print(json.dumps(answer(start)), file=replies, flush=True)
    for line in sys.stdin:
        details = json.loads(line)
        request = functools.partial(getattr(server, details.pop("do")), **details)
        print(json.dumps(answer(request)), file=replies, flush=True)


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))

"""A task that mlpzoo does not know, run by the engine."""

import json
from typing import Literal

import torch
from pydantic import Field

from mlpzoo.train import Recipe, Task, run
from mlpzoo.train.config import Data, Model, Schedule
from mlpzoo.train.data import Samples
from mlpzoo.train.loaders import TrainingBatches


class LineData(Data):
    slope: float = Field(2.0)


class LineRecipe(Recipe):
    task: Literal["line"] = "line"
    model: Model = Model(name="line")
    data: LineData = LineData(dataset="line", batch_size=8, workers=0)


class Line(Task):
    name = "line"
    recipe_type = LineRecipe
    best_by = "closeness"

    def __init__(self, recipe, place, *, training=True):
        super().__init__(recipe, place, training=training)
        self.model = torch.nn.Linear(1, 1)
        self.training = TrainingBatches(Samples(self.make, 64), recipe, place)
        self.updates_per_epoch = self.training.updates_per_epoch

    def make(self, index, seed):
        x = torch.rand(1)
        return x, self.recipe.data.slope * x

    def loss(self, model, batch):
        x, y = batch
        return (model(x) - y).square().mean(), {}

    def validate(self, model):
        return {"closeness": -abs(float(model.weight) - self.recipe.data.slope)}

    def save(self, weights, folder, about):
        folder.mkdir(exist_ok=True)
        torch.save(dict(weights), folder / "line.pt")
        (folder / "config.json").write_text(json.dumps(about))

    def probe(self):
        return self.model, torch.zeros(1, 1)


def test_the_engine_runs_it(tmp_path):
    recipe = LineRecipe(schedule=Schedule(epochs=30))
    recipe = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": 0.1, "weight_decay": 0})})
    figures, _ = run(Line, recipe, tmp_path, device="cpu", progress=False)
    assert figures["closeness"] > -0.05
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"config.json", "line.pt", "metrics.jsonl", "recipe.yaml", "checkpoints", "best", "curves.png"}

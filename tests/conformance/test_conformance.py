"""Every case computed from the authors' code, through the public API, from a file in released form."""

import math

import formula
import numpy as np
import pytest
import torch
from cases import VECTORS, Case
from families import conformance_cases

import mlpzoo
from mlpzoo.deploy import fold
from mlpzoo.models import FAMILIES, Network
from mlpzoo.models.maxim import MAXIM
from mlpzoo.restoration import create_restorer, list_restorers

OUTPUT = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest error of an output, in standard deviations of the output."""
GRADIENT = 1e-3
"""Largest relative error of a gradient's norm."""
GRADIENT_ACROSS_KINKS = 1e-2
"""The same in float32, of a network with ReLUs."""
JUMP = 1e-3, 5e-2
"""The errors in float32, of outputs and of gradients' norms (or their median), of neurons that fire in one precision.

SNN-MLP's authors' own code is 7e-4 off in its base form. In the small form it depends on the number of threads which
ones fire: of two threads, the reference twin is 1e-4 off and not 3e-6.
"""


LARGEST = 31_000_000
"""Parameters of the largest network in the default suite."""


def is_slow(case: Case, dtype: torch.dtype) -> bool:
    """Whether `make test-all` alone runs it."""
    large = case.description["parameters"] > LARGEST
    return large or case.slow or (case.slow_in_float64 and dtype == torch.float64)


RUNS = [
    pytest.param(
        case,
        dtype,
        id=f"{case.name}-{dtype}",
        marks=[pytest.mark.slow] * is_slow(case, dtype),
    )
    for case in conformance_cases()
    for dtype in OUTPUT
]


@pytest.fixture(scope="module")
def case(request):
    return request.param


@pytest.fixture(scope="module")
def checkpoint(case: Case, tmp_path_factory):
    return case.release(tmp_path_factory.mktemp(case.name))


def error(found: torch.Tensor, truth: np.ndarray) -> float:
    expected = torch.from_numpy(truth)
    assert expected.std() > 1e-3, "a truth this small would make the comparison vacuous"
    return float((found.detach().double() - expected).abs().max() / expected.std())


def test_every_vector_here_is_used():
    assert {path.stem for path in VECTORS.glob("*.npz")} == {case.name for case in conformance_cases()}


@pytest.mark.parametrize(("case", "dtype"), RUNS, indirect=["case"])
def test_outputs_and_gradients(case: Case, checkpoint, dtype):
    truth, description = case.truth, case.description
    allowed = max(OUTPUT[dtype], 100 * case.truth_eps)
    if case.jumps and dtype == torch.float32:
        allowed = JUMP[0]
    create = create_restorer if case.model in list_restorers() else mlpzoo.create_model
    model = create(case.model, checkpoint_path=checkpoint, dtype=dtype, **case.options).eval()
    if case.folded:
        model = fold(model)
    image = torch.from_numpy(formula.image(tuple(description["input"]))).to(dtype)
    outputs = model(image)

    if isinstance(outputs, torch.Tensor):
        assert error(outputs, truth["output"]) < allowed
        if case.folded:
            return
        outputs = [outputs]
    else:
        if isinstance(model, MAXIM):
            outputs = [image for stage in outputs for image in stage]
        for i, feature in enumerate(outputs):
            assert tuple(feature.shape) == tuple(truth[f"feature{i}_shape"])
            assert error(feature.mean((2, 3)), truth[f"feature{i}_mean_hw"]) < allowed
            height, width = truth[f"feature{i}_patch"].shape[2:]
            assert error(feature[:, :8, :height, :width], truth[f"feature{i}_patch"]) < allowed
            assert error(feature[:, -4:, -3:, -3:], truth[f"feature{i}_corner"]) < allowed

    weights = [torch.from_numpy(formula.loss_weights(tuple(y.shape))).to(dtype) for y in outputs]
    loss = sum((w * y).mean() for w, y in zip(weights, outputs, strict=True))
    assert loss.item() == pytest.approx(float(truth["loss"]), rel=1e-3)
    loss.backward()

    found = authors_gradient_norms(model, case)
    names = description["grad_names"]
    assert set(found) == set(names)
    expected = dict(zip(names, truth["grad_norms"], strict=True))
    # Some gradients vanish exactly, such as that of a bias which the next LayerNorm takes out again: rounding is all
    # that is left of them, in the authors' code as in ours.
    floor = 100 * max(torch.finfo(dtype).eps, case.truth_eps) * float(np.median(truth["grad_norms"]))
    relative = GRADIENT_ACROSS_KINKS if case.has_kinks and dtype == torch.float32 else GRADIENT
    if case.jumps and dtype == torch.float32:
        # A threshold's gradient is a sum over the neurons that do not fire.
        relative, floor = JUMP[1], JUMP[1] * float(np.median(truth["grad_norms"]))
    wrong = {
        name: (found[name], expected[name])
        for name in names
        if abs(found[name] - expected[name]) > relative * expected[name] + floor
    }
    assert not wrong


def authors_gradient_norms(model, case: Case) -> dict[str, float]:
    """Norms of our gradients under the authors' names: a tensor made of several is split along its first axis."""
    network = model if isinstance(model, Network) else model.model
    key_maps = FAMILIES[network.family].formats
    parameters = dict(network.named_parameters())
    shapes = {name: value.shape for name, value in case.parameters().items()}
    plan, unknown = min((key_map.plan(shapes) for key_map in key_maps), key=lambda found: len(found[1]))
    assert not unknown
    norms = {}
    for ours, sources in plan.items():
        if ours not in parameters:
            continue
        if not parameters[ours].requires_grad:
            continue
        assert parameters[ours].grad is not None, f"{ours} received no gradient"
        for source, part in zip(sources, parameters[ours].grad.chunk(len(sources)), strict=True):
            # A tensor of theirs may make several of ours.
            norms[source.name] = math.hypot(norms.get(source.name, 0.0), float(part.double().norm()))
    return norms

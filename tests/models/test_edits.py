"""Weights may be changed in any way, also ones that PyTorch does not count: nothing answers with old ones.

Nothing derived from weights is kept between calls. The networks are compared with fresh ones that were given the
changed weights before their first call.
"""

import copy

import pytest
import torch
from dense.networks import small
from families import sampled
from models import tiny

from mlpzoo.dense import DenseBackbone
from mlpzoo.deploy import fold


def data(model):
    for parameter in model.parameters():
        parameter.data.mul_(1.5)


def data_replaced(model):
    for parameter in model.parameters():
        parameter.data = 1.5 * parameter.data


def in_inference_mode(model):
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.mul_(1.5)


def through_numpy(model):
    for parameter in model.parameters():
        parameter.detach().numpy()[...] *= 1.5


def detached(model):
    for parameter in model.parameters():
        parameter.detach().mul_(1.5)


def parameters_replaced(model):
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                setattr(module, name, torch.nn.Parameter(1.5 * parameter.detach()))


def state_assigned(model):
    model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()}, assign=True)


def averaged(model):
    """As moving averages and mean teachers are updated."""
    student = copy.deepcopy(model)
    data(student)
    for own, new in zip(model.parameters(), student.parameters(), strict=True):
        own.data.lerp_(new.data, 0.5)


EDITS = (
    *(data, data_replaced, in_inference_mode, through_numpy, detached),
    *(parameters_replaced, state_assigned, averaged),
)


def assert_follows(build, x, edit):
    """The answer changes with the weights, to what a network that never had others gives."""

    def answer(model):
        with torch.no_grad():
            y = model(x)
        return [y] if isinstance(y, torch.Tensor) else list(y.values() if isinstance(y, dict) else y)

    model, fresh = build(), build()
    # Twice: what keeps something may do so from the second call on.
    before = answer(model)
    answer(model)
    edit(model)
    after = answer(model)
    fresh.load_state_dict(model.state_dict())
    for one, other, old in zip(after, answer(fresh), before, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        assert not torch.equal(one, old)


def lively(model):
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1 and name.endswith("weight")), std=0.1)
    return model.eval()


def named(edits=EDITS):
    return pytest.mark.parametrize("edit", edits, ids=lambda edit: edit.__name__)


@named([data, in_inference_mode, through_numpy])
@pytest.mark.parametrize("family", sampled(tiny.NAMES))
def test_networks(family, edit):
    size = tiny.create(family).config.image_size or (64, 96)
    assert_follows(lambda: lively(tiny.create(family)), torch.randn(2, 3, *size), edit)


BOUND = [name for name in tiny.NAMES if tiny.create(name).config.image_size]


@named()
@pytest.mark.parametrize("family", sampled(BOUND))
def test_networks_that_follow_the_image(family, edit):
    height, width = tiny.create(family).config.image_size
    x = torch.randn(1, 3, 2 * height, width)
    assert_follows(lambda: lively(tiny.create(family, dynamic_img_size=True)), x, edit)


@named([data, in_inference_mode, through_numpy])
@pytest.mark.parametrize("family", ["mixer", "cyclemlp"])
def test_backbones_for_dense_prediction(family, edit):
    name, options = small(family)
    assert_follows(lambda: lively(DenseBackbone(name, **options)), torch.randn(1, 3, 96, 128), edit)


@named([data, in_inference_mode])
@pytest.mark.parametrize("family", sampled(tiny.NAMES))
def test_folded_networks(family, edit):
    size = tiny.create(family).config.image_size or (64, 96)
    assert_follows(lambda: fold(lively(tiny.create(family))), torch.randn(1, 3, *size), edit)

"""`torch.compile`: one graph, forward and backward, and no more of them as batches and images change in size."""

import pytest
import torch
from families import CASES, learning, names, size_for
from torch._dynamo.testing import CompileCounterWithBackend

from mlpzoo.layers import ConvEmbed, Downsample

BATCHES = (2, 3, 5)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    # Every network goes through the same `forward`, and compiled forms of one function are few.
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def create(family):
    """A network in evaluation mode, where all of it learns but the statistics of its norms do not move."""
    model = CASES[family].create(**CASES[family].shallow)
    torch.nn.init.normal_(model.head.weight)
    return model.eval()


def images(model, batch, size=None):
    size = size or size_for(model)
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch))


def assert_same_step(compiled, model, x):
    """Logits, and the gradients of the image and of every parameter."""
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    logits = [network(leaf) for network, leaf in zip((compiled, model), leaves, strict=True)]
    found, expected = (
        [y, *torch.autograd.grad(y.square().mean(), [leaf, *learning(model).values()])]
        for y, leaf in zip(logits, leaves, strict=True)
    )
    # Some gradients are sums that cancel to zero, such as that of a bias which the next LayerNorm takes out: what
    # rounding leaves of them is measured by the other gradients.
    rounding = 1e-6 * max(float(b.abs().max()) for b in expected[1:])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.detach().abs().max()) + rounding)


by_family = pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * CASES[name].slow_to_compile) for name in names()]
)


@pytest.mark.parametrize("family", names())
def test_one_graph(family):
    """The least of it, in seconds, for the families whose thorough tests below are slow."""
    model = create(family)
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    x = images(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))


@by_family
def test_one_graph_serves_every_batch(family):
    model = create(family)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in BATCHES:
            assert_same_step(compiled, model, images(model, batch))
        if model.config.image_size is None:
            for size in ((64, 96), (101, 75)):
                assert_same_step(compiled, model, images(model, 4, size_for(model, size)))


def test_a_second_graph_would_be_noticed():
    compiled = torch.compile(create("resmlp"), fullgraph=True, dynamic=False, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled(torch.randn(2, 3, 48, 64))
        with pytest.raises(torch._dynamo.exc.RecompileError):
            compiled(torch.randn(3, 3, 48, 64))


@by_family
def test_nothing_is_compiled_after_the_first_change_of_size(family):
    model = create(family)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for batch in BATCHES:
        compiled(images(model, batch))
    assert counter.frame_count == 2, "once for the first batch size, once for all others"
    if model.config.image_size is None:
        compiled(images(model, 4, size_for(model, (64, 160))))
        before = counter.frame_count
        for size in ((101, 75), (77, 140), (128, 64)):
            compiled(images(model, 6, size_for(model, size)))
        assert counter.frame_count == before


class LeastPyramid(torch.nn.Module):
    """What every pyramid has and the compiler once failed at: a map saved for the convolution between two stages.

    A whole network of the zoo takes inductor minutes; `test_inductor` does that.
    """

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.downsample = (
            ConvEmbed(3, 4, 7, 4, 2),
            torch.nn.LayerNorm(4),
            Downsample(4, 6, 3, 2, 1),
        )

    def forward(self, x):
        x = self.stem(x)
        return self.downsample(x + self.norm(x)).mean((1, 2))


def test_a_pyramid_by_inductor_at_two_sizes():
    """Forward and backward, with sizes that the compiler does not know."""
    model = LeastPyramid()
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for size in ((32, 48), (40, 32)):
        assert_same_step(compiled, model, images(model, 2, size))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", names())
def test_inductor(family):
    model = create(family)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for batch in (2, 3):
        assert_same_step(compiled, model, images(model, batch))
    with torch.no_grad():
        x = images(model, 5)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-3, atol=1e-4)

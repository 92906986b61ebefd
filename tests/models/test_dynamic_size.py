"""`dynamic_img_size`: one isotropic network for images of any size, as if it were bound to each."""

import copy
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from models import tiny
from torch import nn

from mlpzoo.models import IsotropicBackbone, families

COLUMNAR = [family.name for family in families() if issubclass(family.model, IsotropicBackbone)]
SIZES = [(48, 64), (64, 64), (80, 112), (16, 16)]
every_family = pytest.mark.parametrize("family", COLUMNAR)


def awake(model: nn.Module) -> nn.Module:
    """Gates of 1e-6 and heads of zeros would hide what the token weights do."""
    for i, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(i))
    return model.eval()


def create(family: str, **options) -> nn.Module:
    return awake(tiny.create(family, dynamic_img_size=True, **options))


def image(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def bound(model: IsotropicBackbone, size: tuple[int, int]) -> nn.Module:
    """The same network, built anew without the option and told its size."""
    fixed = tiny.create(model.family)
    fixed.load_state_dict(model.state_dict())
    fixed.set_input_size(size)
    return fixed.eval()


@every_family
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_is_what_set_input_size_gives(family, size):
    model, x = create(family), image(*size)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fixed = bound(model, size)
    wanted, maps = fixed.forward_intermediates(x, norm=True)
    assert float(wanted.detach().std()) > 0.1
    for context in (torch.enable_grad, torch.no_grad, torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            assert torch.equal(model(x), fixed(x))
            found, found_maps = model.forward_intermediates(x, norm=True)
            assert torch.equal(found, wanted)
            for y, wanted_y in zip(found_maps, maps, strict=True):
                assert torch.equal(y, wanted_y)
    assert model.stem.img_size == (48, 64), "the network itself stays as it was"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_family
def test_gradients_flow_through_the_resizing(family):
    """Against numbers: how the loss changes when one bound weight does."""
    model = create(family, dtype=torch.float64)
    x = image(32, 80).double()
    names = [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.bound_modules().items()
        for name, _ in module.weights_at((2, 5))
    ]
    assert names

    def loss():
        return model.forward_intermediates(x, [1], intermediates_only=True)[0].square().mean()

    loss().backward()
    for name in names[:3]:
        parameter = model.get_parameter(name)
        steepest = parameter.grad.abs().argmax()
        found = float(parameter.grad.flatten()[steepest])
        assert abs(found) > 1e-6, name
        with torch.no_grad():
            moved = []
            for step in (1e-5, -2e-5):
                parameter.view(-1)[steepest] += step
                moved.append(float(loss()))
            parameter.view(-1)[steepest] += 1e-5
        assert (moved[0] - moved[1]) / 2e-5 == pytest.approx(found, rel=1e-4), name


@every_family
def test_every_parameter_learns_with_checkpointing_or_without(family):
    model, x = create(family), image(64, 96)
    wanted = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
    assert all(gradient.isfinite().all() for gradient in wanted)
    assert all(gradient.any() for gradient in wanted)
    model.set_grad_checkpointing()
    found = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


@given(height=st.integers(1, 90), width=st.integers(1, 90))
@settings(max_examples=25, deadline=None)
def test_images_are_padded_to_whole_patches(height, width):
    model, x = create("mixer"), image(height, width)
    with torch.no_grad():
        y = model.forward_intermediates(x, [-1], intermediates_only=True)[0]
        padded = F.pad(x, (0, -width % 16, 0, -height % 16))
        assert tuple(y.shape[2:]) == (-(-height // 16), -(-width // 16))
        assert torch.equal(y, model.forward_intermediates(padded, [-1], intermediates_only=True)[0])


def test_without_it_other_sizes_are_refused():
    with pytest.raises(ValueError, match="got an image of 64×64 pixels, but this model is bound to 48×64"):
        tiny.create("mixer")(image(64, 64))


def through_numpy(model):
    model.blocks[0].linear_tokens.weight.detach().numpy()[:] = 1


def in_inference_mode(model):
    with torch.inference_mode():
        model.blocks[0].linear_tokens.weight.mul_(2)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.blocks[0].linear_tokens.weight.mul_(2),
        lambda model: model.load_state_dict({k: 0.5 * v for k, v in model.state_dict().items()}),
        lambda model: setattr(model.blocks[0].linear_tokens, "weight", nn.Parameter(torch.ones(12, 12))),
        lambda model: setattr(model.blocks[0].linear_tokens.weight, "data", torch.ones(12, 12)),
        lambda model: model.blocks[0].linear_tokens.weight.data.mul_(2),
        lambda model: torch._foreach_mul_([model.blocks[0].linear_tokens.weight.data], 0.5),
        in_inference_mode,
        through_numpy,
    ],
    ids=["in place", "loaded", "replaced", "data set", "data changed", "average", "inference mode", "numpy"],
)
def test_changed_weights_are_resized_anew(change):
    """However they change: PyTorch's count of changes does not notice all."""
    model, x = create("resmlp"), image(64, 64)
    with torch.no_grad():
        before = model(x)
        change(model)
        assert not torch.allclose(model(x), before)
        assert torch.equal(model(x), bound(model, (64, 64))(x))


def test_layers_are_the_networks_own_where_nothing_changes():
    model, seen = create("mixer"), []
    for name in ("blocks.0", "blocks.0.mlp_channels", "norm"):
        model.get_submodule(name).register_forward_hook(lambda module, args, y: seen.append(module))
    own = [model.blocks[0].mlp_channels, model.blocks[0], model.norm]
    model(image(48, 64))
    assert all(a is b for a, b in zip(seen, own, strict=True))
    seen.clear()
    model(image(64, 64))
    assert seen[0] is own[0], "channel mixing is bound to no grid"
    assert seen[2] is own[2]


def test_resized_weights_are_let_go_with_their_layer():
    """One layer's at a time: they may be larger than all others together."""
    model, seen = create("mixer"), []
    model.blocks[0].register_forward_hook(lambda block, args, y: seen.append(block.mlp_tokens.fc1.weight))
    with torch.no_grad():
        model(image(64, 64))
    assert seen[0] is model.blocks[0].mlp_tokens.fc1.weight


def test_other_dtypes_are_resized_anew():
    model, x = create("mixer"), image(64, 64)
    with torch.no_grad():
        model(x)
        assert model.double()(x.double()).dtype == torch.float64


def test_copies_and_files_do_not_carry_resized_weights():
    model, x = create("mixer"), image(80, 80)
    empty = len(pickle.dumps(model))
    with torch.no_grad():
        expected = model(x)
        assert len(pickle.dumps(model)) == empty
        twin = copy.deepcopy(model)
        twin.blocks[0].mlp_tokens.fc1.weight.zero_()
        assert not torch.equal(twin(x), expected)
        assert torch.equal(model(x), expected)


def test_hooks_see_images_of_every_size():
    model, seen = create("mixer"), []
    model.blocks[1].register_forward_hook(lambda _, args, y: seen.append(y.shape[1]))
    for size in SIZES:
        model(image(*size))
    assert seen == [12, 16, 35, 1]


def test_threads_do_not_meet():
    """Servers run one model from many threads."""
    model = create("mixer")
    with torch.no_grad():
        expected = {size: model(image(*size)) for size in SIZES}
        wrong = []

        def serve(size):
            with torch.no_grad():
                wrong.extend(size for _ in range(10) if not torch.equal(model(image(*size)), expected[size]))

        threads = [threading.Thread(target=serve, args=(size,)) for size in SIZES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_training_mode_reaches_the_blocks():
    model = create("mixer", drop_path_rate=0.5).train()
    x = image(64, 64)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.skipif(
    torch.__version__.startswith("2.11."), reason="the compiler of PyTorch 2.11 cannot follow the making of a view"
)
def test_compile():
    # What was compiled of the same code before, by other tests, would make all sizes dynamic from the start.
    torch.compiler.reset()
    model = create("mixer", depth=1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for size in ((64, 64), (48, 64)):
        torch.testing.assert_close(compiled(image(*size)), model(image(*size)))


@pytest.mark.skipif(
    torch.__version__.startswith("2.11."), reason="the exporter of PyTorch 2.11 binds programs to one size, see above"
)
@pytest.mark.parametrize("family", ["mixer", "vit"])
def test_one_exported_program_serves_every_size(family):
    """The size the network is bound to among them, at which nothing needs resizing."""
    model, auto = create(family, depth=1), torch.export.Dim.AUTO
    program = torch.export.export(model, (image(64, 80),), dynamic_shapes={"x": {2: auto, 3: auto}}).module()
    for size in ((64, 80), (48, 64), (96, 32), (50, 90)):
        torch.testing.assert_close(program(image(*size)), model(image(*size)))

"""Pyramids that mix inside windows: the sizes that they take as they are, and all others."""

import pytest
import torch
from families import CASES

WINDOWED = pytest.mark.parametrize("family", ["swin_mlp", "posmlp"])


def create(family, **options):
    return CASES[family].create(**options).double().eval()


@WINDOWED
def test_any_size_equals_the_plain_network_where_nothing_is_missing(family):
    plain, free = create(family), create(family, dynamic_img_size=True)
    free.load_state_dict(plain.state_dict())
    height, width = plain.size_multiple
    for size in ((height, width), (2 * height, 3 * width)):
        x = torch.randn(2, 3, *size, dtype=torch.float64)
        torch.testing.assert_close(free(x), plain(x))


@WINDOWED
def test_any_size(family):
    free = create(family, dynamic_img_size=True)
    stride = free.reductions[-1]
    for size in ((67, 101), (96, 33), (5, 6)):
        x = torch.randn(1, 3, *size, dtype=torch.float64)
        maps = free.forward_intermediates(x, intermediates_only=True)
        assert maps[-1].shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
        assert free(x).isfinite().all()


@WINDOWED
def test_the_size_is_what_data_configs_name(family):
    model = create(family)
    height, width = (3 * side for side in model.size_multiple)
    model.set_input_size((height, width))
    assert model.pretrained_cfg["input_size"] == (3, height, width)
    assert model.config.img_size == (height, width)
    assert create(family, img_size=(height, width)).pretrained_cfg["input_size"] == (3, height, width)
    wrong = height + 1
    for give in (model.set_input_size, lambda size: create(family, img_size=size)):
        with pytest.raises(ValueError, match=r"multiples of .*dynamic_img_size=True"):
            give(wrong)
    with pytest.raises(ValueError, match=r"multiples of .*dynamic_img_size=True"):
        model(torch.randn(1, 3, wrong, wrong, dtype=torch.float64))
    assert model.config.img_size == (height, width)

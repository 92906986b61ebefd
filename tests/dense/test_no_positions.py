"""Networks that see an image as one vector have nothing for dense prediction, and say so."""

import pytest
import timm

from mlpzoo.dense import DenseBackbone


def test_a_backbone_of_one_vector_is_refused():
    with pytest.raises(ValueError, match="scaling_mlp_b6_wi512 sees an image as one vector"):
        DenseBackbone("scaling_mlp_b6_wi512")
    assert not timm.is_model("scaling_mlp_b6_wi512_pyramid")

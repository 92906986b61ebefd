import pytest

from mlpzoo.compare import Cost, compare, draw

MODELS = ["mixer_s32", "mixer_s16"]


@pytest.fixture(scope="module")
def costs():
    return list(compare(MODELS, [64, (64, 96), 65], repeats=1))


def test_every_size_and_model_has_a_row_in_order(costs):
    assert [(c.model, c.img_size) for c in costs] == [(m, s) for s in [(64, 64), (64, 96), (65, 65)] for m in MODELS]


def test_token_mixing_grows_with_the_tokens(costs):
    small, _, large, _ = costs[:4]
    # Token mixing has 2·D_S weights a token, and every token costs the channel MLP and the stem the same again.
    assert large.parameters - small.parameters == 8 * 2 * (2 * 256 + 1)
    assert 1.45 < large.gmacs / small.gmacs < 1.55
    # Two norms and two linears keep their input, and the channel MLP its hidden layer before the activation; the token
    # MLP's hidden layer has D_S rows whatever the number of tokens, so it does not count. The stem keeps the image, the
    # last norm its input.
    per_token = (8 * (4 * 512 + 2048) + 3 * 32 * 32 + 512) * 4 / 1e6
    assert large.activation_mb - small.activation_mb == pytest.approx(2 * per_token, rel=0.01)
    assert small.ms > 0


def test_operations_are_those_of_the_papers_formula(costs):
    tokens, dim, hidden, wide = 4, 512, 256, 2048
    stem = tokens * dim * 3 * 32 * 32
    block = 2 * tokens * hidden * dim + 2 * tokens * dim * wide
    assert costs[0].gmacs == pytest.approx((stem + 8 * block + dim * 1000) / 1e9, rel=1e-6)


def test_activations_are_at_least_what_the_equations_keep(costs):
    tokens, dim, hidden, wide = 4, 512, 256, 2048
    # Each block keeps the input of two norms, of two activations, and of all linears but the last.
    block = 4 * tokens * dim + 2 * hidden * dim + tokens * wide
    assert costs[0].activation_mb > 8 * block * 4 / 1e6


def test_a_size_a_model_cannot_take_is_said_and_the_rest_goes_on(costs):
    assert all("does not divide into patches" in cost.problem and cost.gmacs is None for cost in costs[4:])


def test_batches_are_divided_out(costs):
    (batched,) = compare(["mixer_s32"], [64], batch_size=3, repeats=1)
    assert batched.gmacs == pytest.approx(costs[0].gmacs)
    assert batched.activation_mb == pytest.approx(costs[0].activation_mb, rel=0.01)


def test_mistakes():
    with pytest.raises(ValueError, match="unknown model 'mixer_b99'"):
        list(compare(["mixer_b99"], [64]))
    with pytest.raises(ValueError, match="1 or more"):
        list(compare(["mixer_s32"], [0]))


def test_drawing(costs, tmp_path):
    draw(costs, tmp_path / "costs.png")
    assert (tmp_path / "costs.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="nothing to draw"):
        draw([Cost(model="mixer_s32", img_size=(65, 65), problem="no")], tmp_path / "none.png")

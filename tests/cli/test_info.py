import json


def test_table(call):
    status, out, err = call("info", "mixer_b16")
    assert (status, err) == (0, "")
    assert "59.9 M" in out
    assert "https://arxiv.org/abs/2105.01601" in out


def test_for_programs(call):
    assert json.loads(call("info", "mixer_b16", "--json")[1])["license"] == "Apache-2.0"


def test_mistakes(assert_refused):
    assert_refused("info", "mixer_b61", status=2, message="The nearest: mixer_b16")
    assert_refused("info", status=2, message="Missing argument")

import json


def test_table_and_plot(call, tmp_path):
    arguments = ("compare", "mixer_s32", "--sizes", "32,33,32x64", "--repeats", 1)
    status, out, err = call(*arguments, "--plot", tmp_path / "cost.png")
    assert status == 0
    assert "18.9 M" in out
    assert "33×33: an image of 33×33 pixels does not divide" in err
    assert (tmp_path / "cost.png").stat().st_size > 1000
    assert [entry["img_size"] for entry in json.loads(call(*arguments, "--json")[1])] == [[32, 32], [33, 33], [32, 64]]


def test_mistakes(assert_refused):
    assert_refused("compare", "mixer_s32", "--sizes", "12y", status=2, message="'12y' is no image size")
    assert_refused("compare", "mixer_q", "--sizes", "32", status=2, message="unknown model")

import json


def test_goes_on_past_broken_files(call, folder):
    status, out, err = call(
        "predict", "--checkpoint", folder / "run", folder / "missing.png", folder / "red.png", folder / "broken.png"
    )
    assert status == 1
    assert "red.png" in out
    assert "[bold]cat" in out
    assert [name in err for name in ("missing.png", "broken.png", "red.png")] == [True, True, False]
    assert err.count("mlpzoo: error: cannot read") == 2


def test_for_programs(call, folder):
    status, out, err = call("predict", "--checkpoint", folder / "run", "--top-k", 1, "--json", folder / "red.png")
    (entry,) = json.loads(out)
    assert (status, err, entry["path"], entry["error"]) == (0, "", str(folder / "red.png"), None)
    assert len(entry["classes"]) == 1
    assert entry["classes"][0]["probability"] > 0.5


def test_mistakes(assert_refused, folder):
    image = folder / "red.png"
    assert_refused("predict", image, status=2, message="give --checkpoint DIR_OR_FILE, or --model NAME")
    assert_refused("predict", "--model", "mixer_q16", image, status=2, message="unknown model 'mixer_q16'")
    assert_refused("predict", "--checkpoint", folder / "nowhere", image, status=1, message="no file or folder")
    assert_refused(
        "predict", "--checkpoint", folder / "run", "--device", "tpu", image, status=2, message="device 'tpu'"
    )
    assert_refused("predict", "--checkpoint", folder, image, status=1, message="no config.json")
    assert_refused("predict", "--checkpoint", folder / "run", "--top-k", 0, image, status=2, message="top-k")

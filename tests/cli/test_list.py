import json


def test_table(call):
    status, out, err = call("list", "mixer_s*")
    assert (status, err) == (0, "")
    assert "mixer_s32" in out
    assert "18.5 M" in out
    assert "mixer_b16" not in out


def test_for_programs(call):
    status, out, err = call("list", "mixer_s*", "mixer_b16", "--pretrained", "--json")
    (entry,) = json.loads(out)
    assert (status, err, entry["name"], entry["top1"], entry["parameters"]) == (0, "", "mixer_b16", 76.44, 59880472)


def test_mistakes(assert_refused):
    assert_refused("list", "nothing*", status=1, message="no model matches")

from mlpzoo.restoration.releases import TASKS


def test_help_names_every_task(call):
    status, out, _ = call("restore", "--help")
    assert status == 0
    assert all(task in out for task in TASKS)

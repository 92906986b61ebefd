from mlpzoo.restoration import list_tasks


def test_help_names_every_task(call):
    status, out, _ = call("restore", "--help")
    assert status == 0
    assert all(task in out for task in list_tasks())

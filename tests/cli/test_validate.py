def test_mistakes(assert_refused, folder):
    assert_refused("validate", folder, status=1, message="holds no run")
    assert_refused("validate", status=2, message="Missing argument")

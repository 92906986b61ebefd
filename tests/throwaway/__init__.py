"""A family that no part of the package knows of: `blender.py` as it would stand in `models/`, `case.py` in
`tests/families/`, and a plugin of pytest that has both discovered.

`tests/families/test_new_family.py` runs the generic tests with it.
"""

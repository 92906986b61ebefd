"""MAXIM for the tests."""

from cases import Case

from families import FamilyCase

CASE = FamilyCase(
    family="maxim",
    conformance=(Case("MAXIM-S-1", "maxim_s1"), Case("MAXIM-S-2", "maxim_s2")),
    task="restoration",
)

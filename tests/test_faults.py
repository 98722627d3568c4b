"""A few seeds of the fault suite; `python -m tests.faults` plays as many as one likes."""

from __future__ import annotations

import pytest

from tests import faults

SEEDS = (1, 2, 3, 5, 8, 13, 21, 34)


@pytest.mark.timeout(300)
def test_nothing_that_was_promised_is_broken_whatever_happens():
    broken = {seed: found for seed, found, _ in map(faults._apart, SEEDS) if found}
    assert broken == {}, "again with: python -m tests.faults --only SEED"


def test_every_kind_of_trouble_is_met_by_some_seed_of_the_long_form():
    import random

    met = set()
    for seed in range(1, 501):
        own = random.Random(seed)
        own.random()
        own.random()
        met |= {maker.__name__ for maker in own.sample(faults.TROUBLE, own.randint(1, 4))}
    assert met == {maker.__name__ for maker in faults.TROUBLE}

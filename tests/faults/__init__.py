"""Seeded trouble for a real daemon: kills, stops, full disks, cut lines, junk, strangers, deaf readers; an account.

    python -m tests.faults --scenarios 500 --seed 1 --jobs 2      the long form: each broken promise with its seed
    python -m tests.faults --only 17                              one scenario again

`plan` says what a seed means, `trouble` has the kinds of it, `scenario` plays one with honest clients beside,
`promises` looks at what is left, and `__main__` plays many and counts.
"""

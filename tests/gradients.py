"""Comparing gradients with what they ought to be."""

EXACT = 1e-8


def assert_same(ours, reference, tolerance=EXACT):
    assert ours.keys() == reference.keys()
    difference = sum((ours[n] - reference[n]).square().sum() for n in ours).sqrt()
    size = sum(r.square().sum() for r in reference.values()).sqrt()
    assert size > 0
    assert difference <= tolerance * size

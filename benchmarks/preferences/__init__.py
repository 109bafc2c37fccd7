"""Win rates after few choices, by simulated raters whose taste is known.

raters    tastes that are hidden from whoever learns
cells     a cell: one task, one rater, one number of choices, all methods
__main__  the command; see there
"""

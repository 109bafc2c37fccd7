"""The emoji benchmark, in colour: drawings of the same emoji by several hands.

The drawings come from the package of the icon benchmark, names and tags from `emojibase-data`.
"""

"""The episodes of an evaluation, and the images that are compared on them."""

"""Episodes that are evaluated, and the images compared on them."""

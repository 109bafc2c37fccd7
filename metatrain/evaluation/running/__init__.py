"""The jobs of an evaluation, and the processes that run them."""

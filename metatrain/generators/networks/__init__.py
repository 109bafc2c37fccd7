"""Networks that a generator is made of."""

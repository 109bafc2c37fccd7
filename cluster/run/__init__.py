"""One run on a Ray cluster: its launch, its workers and what watches them."""

"""Names of what refinement gives an example beside its real image."""

# The condition of simulated images, [N, C, H, W] beside each real one, to be refined.
SIMULATED = "simulated"
# The condition of images that were refined in earlier outer steps, [N, C, H, W].
REPLAYED = "replayed"

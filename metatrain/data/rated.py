"""Names of what rating gives an example and a packed data set of drawings."""

# The condition of the image [C, H, W] that lost to an example's target.
LOSER = "loser"
# The condition of the images [K, C, H, W] that a drawing was conditioned on.
SHOTS = "shots"

# The packed column of a drawing's traits: numbers that tastes are made of.
TRAITS = "traits"
# The traits with a name, which come first; the others are directions of a feature space.
NAMED_TRAITS = ("thick", "symmetric", "red", "green", "blue")
# The first of them that images of one channel have, too.
GREY_TRAITS = 2

# The ends of the names of a scene's packed tasks: its drawings, and what they are conditioned on.
DRAWINGS_END, SHOTS_END = "/drawings", "/shots"

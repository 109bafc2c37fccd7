"""Reading image files of strangers: damage, orientation, value ranges, colours, transparency."""

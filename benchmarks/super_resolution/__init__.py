"""Super-resolution compared: bicubic, ZSSR, joint and meta-learned models, on sets of images."""

"""Images that nobody grouped become groups: features without labels, and partitions of them.

`metatrain.data.tasks.clusters` samples tasks from the file that this room makes.
"""

"""What to know of a cluster before hours of it are paid for: a table of pass, warn and fail.

probe (on every node), wire (between them) -> patient -> checks -> table
"""

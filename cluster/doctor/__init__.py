"""Find problems of a cluster before a run pays for it: a table of pass, warn and fail.

probe (on every node), all_reduce (between nodes) -> examination -> checks -> findings_table
"""

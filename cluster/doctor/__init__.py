"""Find what would fail a run before its cluster is paid for: a table of pass, warn and fail.

probe (on every node), all_reduce (between nodes) -> examination -> checks -> findings_table
"""

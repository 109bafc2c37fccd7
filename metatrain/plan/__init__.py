"""Plans: the memory, traffic, time and money that a run will need, before anything is rented.

trace -> memory, collectives, step_time -> plan -> terminal_table
"""

"""What a run will need, before anything is rented: memory, bytes on the wire, time and money.

trace -> memory, traffic, pace -> plan -> table
"""

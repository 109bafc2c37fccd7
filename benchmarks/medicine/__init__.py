"""Medicine: whether a detector of red cells in a new blood smear learns from generated cells."""

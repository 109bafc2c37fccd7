"""Outer gradients of episodes: the inner loop, the learners and auxiliary losses."""

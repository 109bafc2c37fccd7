"""Episodes become outer gradients: the inner loop, the learners and auxiliary losses."""

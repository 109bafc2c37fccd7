"""The inner loop: from meta-parameters theta to the fast weights phi of one task."""

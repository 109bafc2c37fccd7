"""What our learners cost beside other libraries, and beside the least that they could cost."""

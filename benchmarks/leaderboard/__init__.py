"""The leaderboard: all learners on one benchmark, at equal training compute."""

"""The leaderboard: every way to learn on one benchmark, at equal training compute."""

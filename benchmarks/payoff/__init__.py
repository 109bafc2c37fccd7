"""The payoff of meta-learning: quality over budgets of training, and over adapting."""

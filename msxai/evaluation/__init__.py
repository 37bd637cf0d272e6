"""How well networks and baselines classify, and how they compare."""

"""How well networks and baselines classify, how they compare, and whether they need the lesions."""

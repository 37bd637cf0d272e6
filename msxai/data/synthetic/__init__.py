"""The embedded cohorts: an anatomy to deform and people to draw."""

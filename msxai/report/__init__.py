"""What a reader sees: figures, claims, the results page."""

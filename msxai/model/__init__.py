"""The network of the paper, and how it is trained."""

"""Atlases, relevance and lesions by region, and the tests of both."""

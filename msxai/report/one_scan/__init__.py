"""The page of one scan, its pictures and warnings, and a run over many scans (notebook 10)."""

"""From files to arrays: cohorts, registration, prepared scans, filled lesions, simulated people."""

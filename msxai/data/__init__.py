"""From files to arrays: cohorts, brains in MNI space, prepared scans, filled lesions, simulated people."""

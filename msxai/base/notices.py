"""The two sentences that every figure, page and sidecar carries."""

__all__ = ["NOTICE", "SYNTHETIC"]

SYNTHETIC = "Synthetic: simulated subjects, no data of patients."
NOTICE = "Research software. Not for clinical use."

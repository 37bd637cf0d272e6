"""The two sentences that stand on every figure, page and sidecar."""

__all__ = ["NOTICE", "SYNTHETIC"]

SYNTHETIC = "Synthetic: simulated subjects, no data of patients."
NOTICE = "Research software. Not for clinical use."

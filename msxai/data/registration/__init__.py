"""From a raw scan to MNI space: brain, affine transform, derivatives."""

"""Raw heads made of simulated brains."""

import numpy as np
from scipy import ndimage

from msxai.data import images


def sampled(values, affine, like):
    step = np.linalg.inv(affine) @ like.affine
    return ndimage.affine_transform(
        np.asarray(values, "float32"), step[:3, :3], step[:3, 3], like.shape, order=1
    )


def head(subject, seed):
    """A phantom's brain inside cerebrospinal fluid, a dark skull and a bright scalp."""
    bright = np.median(subject.image[subject.brain])
    away = ndimage.distance_transform_edt(~subject.brain, sampling=np.diag(images.AFFINE)[:3])
    values = np.where(
        subject.brain,
        subject.image,
        np.select([away < 3, away < 9, away < 15], [0.35 * bright, 0.08 * bright, 0.9 * bright], 0),
    )
    return values + np.random.default_rng(seed).normal(0, 0.02 * bright, values.shape)

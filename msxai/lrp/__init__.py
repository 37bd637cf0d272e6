"""Layer-wise relevance propagation and other ways of explaining: which voxels made the logit what it is."""

import lazy_loader

# Lazily, because iNNvestigate's process (`msxai.lrp.innvestigate`) must not import Keras 3.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"engine": ["Explanation", "explain", "explain_each", "stream"]},
)

"""Which voxels made the logit what it is: layer-wise relevance propagation and other methods.

explain, explain_each, stream   the one verb, for one way to explain, several, or batch by batch
Explanation, Computation        what comes back, and how it is computed
conserved                       share of the logit that a map holds
Gradient ... Occlusion          methods besides LRP, with their options; METHODS lists them by name
quick                           the same methods with fewer steps, for comparisons of many maps

Rules and composites of LRP: `msxai.lrp.rules`.
"""

import lazy_loader

# Lazily, because iNNvestigate's process (`msxai.lrp.innvestigate`) must not import Keras 3.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "engine": ["explain", "explain_each", "stream"],
        "explanation": ["AUDIT", "ENGINES", "Computation", "Explanation", "conserved"],
        "gradients": [
            "Gradient",
            "GuidedBackpropagation",
            "InputXGradient",
            "IntegratedGradients",
            "SmoothGrad",
        ],
        "methods": ["METHODS", "quick"],
        "occlusion": ["Occlusion"],
    },
)

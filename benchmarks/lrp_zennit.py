"""Relevance of a small network by zennit 0.5.1's composites, as reference values for
tests/test_lrp_zennit.py. Seconds, in float64.

Usage: python benchmarks/lrp_zennit.py      (in an environment of its own: python -m pip install
torch torchvision zennit==0.5.1 numpy)

Written: tests/lrp/zennit.npz with weights (as Keras stores them), one volume, the logit and a map a
composite. Nothing of msxai is imported: the environment needs none of it.
"""

from pathlib import Path

import numpy as np
import torch
from zennit import composites
from zennit.attribution import Gradient

LOW, HIGH = -4.0, 4.0
COMPOSITES = {
    "epsilon_plus": composites.EpsilonPlus,
    "epsilon_plus_flat": composites.EpsilonPlusFlat,
    "epsilon_alpha2_beta1": composites.EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": composites.EpsilonAlpha2Beta1Flat,
    "epsilon_gamma_box": lambda **options: composites.EpsilonGammaBox(
        low=LOW, high=HIGH, **options
    ),
}


def build(rng):
    """The paper's layers, small: (conv, ELU, pool) twice and a dense layer; weights and biases of
    both signs.
    """
    torch.set_default_dtype(torch.float64)
    model = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3),
        torch.nn.ELU(),
        torch.nn.MaxPool3d(3),
        torch.nn.Conv3d(4, 3, 3),
        torch.nn.ELU(),
        torch.nn.MaxPool3d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(24, 1),
    )
    for parameter in model.parameters():
        parameter.data = torch.from_numpy(rng.normal(0, 0.4, tuple(parameter.shape)))
    return model.eval()


def as_keras(model):
    """Weights in Keras's order: channels last, also in what Flatten makes."""
    arrays = {}
    for name, index in (("conv1", 0), ("conv2", 3)):
        arrays[f"{name}/kernel"] = model[index].weight.detach().numpy().transpose(2, 3, 4, 1, 0)
        arrays[f"{name}/bias"] = model[index].bias.detach().numpy()
    arrays["dense/kernel"] = (
        model[7].weight.detach().numpy().reshape(3, 2, 2, 2).transpose(1, 2, 3, 0).reshape(24, 1)
    )
    arrays["dense/bias"] = model[7].bias.detach().numpy()
    return arrays


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    model, volume = build(rng), rng.normal(size=(1, 1, 20, 20, 20))
    volume = np.clip(volume, LOW, HIGH)
    stored = {
        **as_keras(model),
        "volume": volume[:, 0, ..., None].astype("float32"),
        "low_high": np.array([LOW, HIGH]),
    }
    inputs = torch.from_numpy(stored["volume"][..., 0][:, None].astype(float)).requires_grad_()
    for name, make in COMPOSITES.items():
        with Gradient(model, make(epsilon=1e-3)) as attributor:
            logit, relevance = attributor(inputs, lambda output: output)
        stored[name] = relevance.numpy()[0, 0].astype("float32")
        print(name, float(logit[0, 0]), stored[name].sum())
    stored["logit"] = logit.detach().numpy()
    stored["versions"] = np.array([f"torch {torch.__version__}", "zennit 0.5.1"])
    np.savez_compressed(Path(__file__).parents[1] / "tests" / "lrp" / "zennit.npz", **stored)

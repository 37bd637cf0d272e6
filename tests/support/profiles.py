"""Profiles of the workflow, as Snakemake puts one on top of another."""

import yaml

import msxai

WORKFLOW = msxai.ROOT / "workflow"
ON_TOP = {
    "quality": "demo",
    "real": "demo",
    "sight": "demo",
    "sight-without": "demo",
    "sight-early": "demo",
    "beside": "demo",
    "quality-smoke": "smoke",
}


def profile(name):
    return yaml.safe_load((WORKFLOW / f"{name}.yaml").read_text(encoding="utf-8"))


def merged(low, high):
    """Two profiles as Snakemake puts the second on top of the first."""
    whole = dict(low)
    for name, value in high.items():
        both = isinstance(value, dict) and isinstance(whole.get(name), dict)
        whole[name] = merged(whole[name], value) if both else value
    return whole


def every_profile():
    names = sorted(path.stem for path in WORKFLOW.glob("*.yaml"))
    return {
        name: merged(profile(ON_TOP[name]), profile(name)) if name in ON_TOP else profile(name)
        for name in names
    }


PROFILES = every_profile()

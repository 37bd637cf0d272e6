"""The numbers printed in Eitel et al. 2019; no other file has them than ``paper_results.tsv``."""

from importlib import resources

import pandas as pd

__all__ = ["read"]


def read() -> pd.DataFrame:
    """Read the paper's numbers.

    Returns
    -------
    pandas.DataFrame
        section, variant, description, quantity, mean, sd, low, high, unit, source.

    References
    ----------
    Eitel et al. 2019, NeuroImage: Clinical 24:102003, doi:10.1016/j.nicl.2019.102003.
    """
    table = resources.files(__package__) / "paper_results.tsv"
    with table.open(encoding="utf-8") as file:
        return pd.read_csv(file, sep="\t", comment="#")

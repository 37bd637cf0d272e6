"""What a program can answer of two checklists for reports, and what it leaves to the author.

CLAIM 2024: Tejani et al. 2024, Radiology: Artificial Intelligence 6:e240300,
doi:10.1148/ryai.240300. METRICS: Kocak et al. 2024, Insights into Imaging 15:8,
doi:10.1186/s13244-023-01572-w. The topics of ``reporting_items.tsv`` are in this
package's words; the checklists' own words decide.
"""

from importlib import resources

import pandas as pd

from msxai.base import tsv
from msxai.model.training_records import Card

__all__ = ["AUTHOR", "items"]

AUTHOR = "The author must say."
"""Answer where a program has none."""


def items(cards: list[Card]) -> pd.DataFrame:
    """Return all items of both checklists with their answers.

    Parameters
    ----------
    cards : list of Card
        Of the networks that have explained the scan. Answers about networks are known for those
        that the package brings.

    Returns
    -------
    pandas.DataFrame
        checklist, item, topic, answer, proof ("" where the author must say).
    """
    with resources.as_file(resources.files(__package__) / "reporting_items.tsv") as path:
        table = tsv.read(path).astype(str)
    answered = table["of"] == "software"
    if all(card.shipped for card in cards):
        answered |= table["of"] == "networks"
    table.loc[~answered, "answer"] = AUTHOR
    table.loc[~answered, "proof"] = ""
    return table.drop(columns="of")

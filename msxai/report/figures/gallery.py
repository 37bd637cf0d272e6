"""Draw and save the figures of a results folder, one call a figure."""

from dataclasses import dataclass
from pathlib import Path

from msxai.report.figures import sheet

__all__ = ["Gallery"]


@dataclass(frozen=True)
class Gallery:
    """A folder of figures that share their provenance.

    Parameters
    ----------
    folder : path
        Where the figures go.
    record : dict
        From `msxai.base.provenance.record`.
    synthetic : bool
        Whether the subjects are simulated: every figure says so.
    """

    folder: Path
    record: dict
    synthetic: bool

    def draw(self, stem: str, function, *data, svg: bool = False, **options):
        """Draw a figure, save it with its numbers and its provenance, and return it.

        Parameters
        ----------
        stem : str
            Name of the files without ending, e.g. ``fig06_roc``.
        function : callable
            One of `msxai.report.figures`.
        *data, **options
            Arguments of the function.
        svg : bool
            Write .svg too. For charts, not for maps.

        Returns
        -------
        matplotlib.figure.Figure
        """
        figure, source = function(*data, synthetic=self.synthetic, **options)
        sheet.save(figure, self.folder, stem, source, self.record, svg=svg)
        return figure

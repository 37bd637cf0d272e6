"""One error type per kind of bad input; each message says where, what was found, what was expected and how to mend it."""


class MsxaiError(Exception):
    """Base of all errors that a user can mend.

    Parameters
    ----------
    where : str or pathlib.Path
        The file, column or parameter at fault.
    found : str
        What is there.
    expected : str
        What should be there.
    mend : str
        What to do about it, a full sentence or command.
    """

    def __init__(self, where, found: str, expected: str, mend: str):
        self.where, self.found, self.expected, self.mend = str(where), found, expected, mend
        super().__init__(f"{where}: found {found}; expected {expected}. {mend}")


class ParameterError(MsxaiError):
    """A notebook's parameter is misspelt, of a wrong type or out of range."""


class CohortError(MsxaiError):
    """A cohort's folder or table: missing file or column, unknown label, duplicate participant."""


class ImageError(MsxaiError):
    """An image file that cannot be used as it is: truncated, empty, not NIfTI, 4D, without a space, not finite."""


class RegistrationError(MsxaiError):
    """A scan finds no way into MNI152 space: no head or brain in it, or a registration that ends nowhere."""


class SplitError(MsxaiError):
    """A subject stands on two sides of a split, or a part of it is empty."""


class MissingStepError(MsxaiError):
    """An earlier notebook has not run yet."""


class StaleInputError(MsxaiError):
    """A result of an earlier notebook was made with other parameters or from other data, or was changed since."""


class MissingAtlasError(MsxaiError):
    """An atlas's file is not here; what needs it can be left out with this message as the reason."""


class EngineError(MsxaiError):
    """A layer that LRP is not defined for, or the innvestigate process failed."""

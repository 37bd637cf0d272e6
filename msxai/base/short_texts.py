"""Texts and values as a message shows them: never longer than a person would read."""

import reprlib

__all__ = ["beginning", "value", "without_middle"]

_LONGEST = 200  # letters of a value


def beginning(text: str, longest: int = 60) -> str:
    """Return the first letters of a text, and dots where there are more.

    Parameters
    ----------
    text : str
    longest : int
        Letters.

    Examples
    --------
    >>> beginning("sub-00001", longest=5)
    'sub-0...'
    """
    return text if len(text) <= longest else f"{text[:longest]}..."


def without_middle(text: str, longest: int = _LONGEST) -> str:
    """Return the first and the last letters of a text that is too long.

    Parameters
    ----------
    text : str
    longest : int
        Letters.

    Examples
    --------
    >>> without_middle("abcdefgh", longest=4)
    'ab...gh'
    """
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}...{text[-half:]}"


def value(content) -> str:
    """Return a value as Python writes it, without the middle of a long one.

    A list or a mapping is not written as a whole first: aliases of YAML can make it larger than
    the memory.

    Parameters
    ----------
    content : object

    Examples
    --------
    >>> value(["a"] * 5)
    "['a', 'a', 'a', 'a', 'a']"
    """
    if type(content) is int and not -(2**63) <= content < 2**63:
        return "a number of more than 64 bits"
    writer = reprlib.Repr()
    writer.maxlevel = 2
    writer.maxlist = writer.maxtuple = writer.maxdict = 10
    writer.maxstring = writer.maxother = _LONGEST
    return without_middle(writer.repr(content))

"""The exceptions that a user of the package is meant to see."""


def shown(text: object) -> str:
    """A text that can be printed: bytes of a file name that are no UTF-8, as those of Latin-1 names, become `\\xe9`."""
    try:
        return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which no name on Linux has
        return str(text).encode("utf-8", "backslashreplace").decode()


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one line: what is wrong, and how to mend it."""

    def __str__(self) -> str:
        return shown(super().__str__())


class DivergenceError(FloatingPointError):
    """A sampler has left what its noise and what is known allow: the result would be wrong. It names remedies."""


class MachineError(InputError):
    """What is wanted cannot be done on this machine as it is: a program is missing, or the disk is full."""

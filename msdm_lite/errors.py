"""The one exception that a user of the package is meant to see."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one line: what is wrong, and how to mend it."""

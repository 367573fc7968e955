"""The exceptions that a user of the package is meant to see."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one line: what is wrong, and how to mend it."""


class DivergenceError(FloatingPointError):
    """A sampler has left what its noise and what is known allow: the result would be wrong. It names remedies."""


class MachineError(InputError):
    """What is wanted cannot be done on this machine as it is: a program is missing, or the disk is full."""

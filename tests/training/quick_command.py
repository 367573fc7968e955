"""The command line with little to validate and few crops to measure standard deviations on: for runs of a few steps."""

from functools import partial

from msdm_lite.cli.main import command
from msdm_lite.training import loop, validation

if __name__ == "__main__":  # workers that read crops import this file too
    loop.Validation = lambda *settings: validation.Validation(*settings[:3], count=1)
    loop.standard_deviations = partial(loop.standard_deviations, count=20)
    command()

"""The command line with little to validate and few crops to measure standard deviations on: for runs of a few steps."""

from functools import partial

from msdm_lite.cli.main import command
from msdm_lite.training import loop, statistics, validation

if __name__ == "__main__":  # workers that read crops import this file too
    loop.Validation = lambda model, songs, count, gain: validation.Validation(model, songs, 1, gain)
    statistics.fit_standard_deviations = partial(statistics.fit_standard_deviations, count=20)
    statistics.levels = partial(statistics.levels, count=20)
    command()

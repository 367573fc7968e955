"""`python -m msdm_lite` is the command `msdm-lite`; `torchrun -m msdm_lite train ...` needs it so."""

from msdm_lite.cli.main import command

command()

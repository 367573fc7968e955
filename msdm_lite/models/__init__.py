"""Networks, their configurations and their files. Nothing here depends on data sets."""

"""Networks, their configurations and their files. Nothing here knows data sets."""

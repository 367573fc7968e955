"""Devices, files, paths, optional imports, the terminal and provenance. Nothing here knows music."""

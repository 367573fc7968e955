"""Devices, files, paths, optional imports, the terminal and provenance. It contains nothing about music."""

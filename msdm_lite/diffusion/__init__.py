"""Noise, denoisers, samplers, guidances and analytic distributions. Nothing here depends on more than the stem axis."""

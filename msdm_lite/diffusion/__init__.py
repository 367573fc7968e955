"""The mathematics: noise, denoisers, samplers, guidances and the exact oracle. It looks at the stem axis alone."""

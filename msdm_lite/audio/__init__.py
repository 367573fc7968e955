"""Sound files, transforms, RMS levels and loudness, beats and sketches. It contains no diffusion and no models."""

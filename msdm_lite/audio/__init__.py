"""Sound in, sound out: files, transforms, levels, beats and coarse spectrograms. Nothing here knows diffusion or
models.
"""

"""The corpus, its MIDI and its renderer, readers of folders of stems, and data sets of crops. It contains no models."""

"""Songs and sounds: the corpus, its MIDI and its renderer, readers of folders of stems, data sets of crops. No models.
"""

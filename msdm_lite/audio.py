STEMS = ("bass", "drums", "guitar", "piano")
SAMPLE_RATE = 22050

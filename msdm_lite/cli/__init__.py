"""The command line: words to calls, and nothing else. Whatever computes lives in the rooms below."""

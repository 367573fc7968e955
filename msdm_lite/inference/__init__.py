"""What a user calls: separation, generation and accompaniment of any length. No training, no scoring."""

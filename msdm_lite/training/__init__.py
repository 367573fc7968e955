"""The training loop and its parts: recipe, batches, validation, optimizer, checkpoints and log."""

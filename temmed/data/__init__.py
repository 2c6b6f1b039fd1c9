"""From timeline folders to batches of tensors."""

"""The tables in which any model, trained here or not, hands in its answers."""

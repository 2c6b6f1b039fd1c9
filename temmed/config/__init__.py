"""The configuration: where it lies, what it may hold, and what is said when it holds something else. Torch-free."""

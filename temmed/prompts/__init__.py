"""Question wording. A leaf: imports nothing of temmed."""

"""The functional metrics as torchmetrics classes: states that sum over batches and processes, and nothing else."""

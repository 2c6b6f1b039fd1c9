"""Train a model: ``python train.py model=memory_fusion data=mri``. See ``python train.py --help``."""

from temmed.entry import train

if __name__ == "__main__":
    train()

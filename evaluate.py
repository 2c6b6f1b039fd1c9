"""Score a trained checkpoint: ``python evaluate.py ckpt_path=FILE``. See ``python evaluate.py --help``."""

from temmed.entry import evaluate

if __name__ == "__main__":
    evaluate()

"""Help, the composed configuration and a mistake are answered without torch or pandas."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "pandas", "numpy", "pytorch_lightning", "transformers", "monai", "timm", "wandb"}
#: Runs a script as ``python FILE`` would, then tells which modules it loaded.
REPORT = """
import runpy, sys
script, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    print("MODULES", *sorted(name.partition(".")[0] for name in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("script", "arguments", "code"),
    [
        ("train.py", ["--help"], 0),
        ("train.py", ["--cfg", "job"], 0),
        ("train.py", ["model=memory_fuson"], 2),
        ("train.py", ["data.batch_size=0"], 2),
        ("train.py", ["+trainer.max_epoch=1"], 2),
        ("evaluate.py", ["--help"], 0),
        ("evaluate.py", ["ckpt_path=nowhere"], 2),
    ],
)
def test_nothing_heavy_is_loaded(script: str, arguments: list[str], code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(ROOT / script), *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    loaded = set(done.stderr.rpartition("MODULES ")[2].split())
    assert "hydra" in loaded
    assert not loaded & HEAVY
    assert not list(tmp_path.iterdir())

"""Recorded numbers that a change must not move unseen: compared with a tolerance, written anew on request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

#: Where the recorded numbers are.
FOLDER = Path(__file__).parent / "models" / "golden"
COMMAND = 'make test ARGS="-n 0 tests/models/test_golden.py tests/training/test_loss_curve.py --refresh-golden"'
_REMEDY = f"If the change is meant, write them anew and read the diff: {COMMAND}"


class Golden:
    """Compares tensors with a file of `FOLDER`, or writes it.

    Args:
        refresh: write what is found, and say what changed.
        say: prints a line.
    """

    def __init__(self, refresh: bool, say: Callable[[str], None]) -> None:
        self.refresh, self.say = refresh, say

    def check(self, name: str, found: Mapping[str, Tensor], rtol: float, atol: float) -> None:
        """Fail where the recorded numbers differ by more than ``atol + rtol · |recorded|``."""
        path = FOLDER / f"{name}.json"
        recorded = self._load(path)
        if self.refresh:
            self._write(path, recorded, found)
            return
        if not recorded:
            pytest.fail(
                f"Expected recorded numbers in {path}, found none. Make them: pytest --refresh-golden -k golden"
            )
        assert list(recorded) == list(found), f"{path} records other quantities. {_REMEDY}"
        for key, value in found.items():

            def told(text: str, key: str = key) -> str:
                return f"{key}: {text}\n{_REMEDY}"

            torch.testing.assert_close(value.double(), recorded[key], rtol=rtol, atol=atol, msg=told)

    @staticmethod
    def _load(path: Path) -> dict[str, Tensor]:
        if not path.is_file():
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            key: torch.tensor(entry["values"], dtype=torch.float64).reshape(entry["shape"])
            for key, entry in content.items()
        }

    def _write(self, path: Path, recorded: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        for key, value in found.items():
            before = recorded.get(key)
            if before is None or before.shape != value.shape:
                self.say(f"{path.stem}: {key} is new, {tuple(value.shape)}")
            else:
                self.say(f"{path.stem}: {key} moved by at most {(value - before).abs().max():.2g}")
        lines = (
            f'"{key}": {{"shape": {list(value.shape)}, "values": {[round(x, 6) for x in value.flatten().tolist()]}}}'
            for key, value in found.items()
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

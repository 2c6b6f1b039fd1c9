"""Signatures are read from source files: a small package is written for each question."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from temmed.config import targets
from temmed.config.targets import signature
from temmed.errors import InputError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package ``parts`` that raises when it is imported."""
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .heads import Head as Renamed\nraise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    targets.signature.cache_clear()
    targets._parsed.cache_clear()
    yield folder
    targets.signature.cache_clear()
    sys.modules.pop("parts", None)


def required(target: str) -> dict[str, bool]:
    """The arguments of a target, and which of them it cannot do without."""
    found = signature(target, "model.temporal")
    assert found is not None
    return {name: parameter.required for name, parameter in found.parameters.items()}


def test_arguments_and_which_of_them_are_required(package: Path) -> None:
    (package / "heads.py").write_text(
        "class Head:\n    def __init__(self, dim: int, slots=8, *, gate: float, norm: bool = True): ...\n"
    )
    assert required("parts.heads.Head") == {"dim": True, "slots": False, "gate": True, "norm": False}
    found = signature("parts.heads.Head", "x")
    assert found is not None
    assert not found.takes_any


def test_a_re_export_is_followed(package: Path) -> None:
    (package / "heads.py").write_text("try:\n    from .inner import Head\nexcept ImportError:\n    Head = None\n")
    (package / "inner.py").write_text("class Head:\n    def __init__(self, dim): ...\n")
    assert list(required("parts.Renamed")) == ["dim"]


def test_an_inherited_init_is_found(package: Path) -> None:
    (package / "heads.py").write_text("from parts.base import Base\nclass Head(Base):\n    pass\n")
    (package / "base.py").write_text("class Base:\n    def __init__(self, dim, **options): ...\n")
    found = signature("parts.heads.Head", "x")
    assert found is not None
    assert list(found.parameters) == ["dim"]
    assert found.takes_any


def test_a_dataclass_takes_its_fields(package: Path) -> None:
    (package / "heads.py").write_text(
        "from dataclasses import dataclass, field\nfrom typing import ClassVar\n"
        "@dataclass\nclass Base:\n    dim: int\n"
        "@dataclass(frozen=True)\nclass Head(Base):\n    kind: ClassVar[str] = 'a'\n    slots: int = 8\n"
        "    names: list = field(default_factory=list)\n    hidden: int = field(init=False)\n"
    )
    assert required("parts.heads.Head") == {"dim": True, "slots": False, "names": False}


def test_a_function_and_a_class_method(package: Path) -> None:
    (package / "heads.py").write_text(
        "def build(dim): ...\nclass Head:\n    @classmethod\n    def small(cls, slots): ...\n"
        "    @staticmethod\n    def large(slots): ...\n"
    )
    for target, expected in [("build", ["dim"]), ("Head.small", ["slots"]), ("Head.large", ["slots"])]:
        assert list(required(f"parts.heads.{target}")) == expected


@pytest.mark.parametrize(
    "source",
    [
        "from unknown_elsewhere import *\n",
        "from unknown_elsewhere import Head\n",
        "from . import heads as Head\n",
        "from unknown_elsewhere import Base\nclass Head(Base): ...\n",
        "def __getattr__(name): ...\n",
        "Head = make()\n",
        "import numpy as Head\n",
    ],
)
def test_what_the_source_does_not_tell_is_let_through(package: Path, source: str) -> None:
    (package / "heads.py").write_text(source)
    assert signature("parts.heads.Head", "x") is None


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("parts.heads.Haed", "Did you mean 'Head'?"),
        ("parts.head.Head", "Did you mean 'heads'?"),
        ("parts.heads", "Add the name of the class."),
        ("no_such_package_here.Head", "Install no_such_package_here"),
        ("Head", "Write it as package.module.Class."),
        ("parts.heads.2Head", "Write it as package.module.Class."),
    ],
)
def test_a_wrong_path_is_answered_with_the_right_one(package: Path, target: str, says: str) -> None:
    (package / "heads.py").write_text("class Head:\n    def __init__(self, dim): ...\n")
    with pytest.raises(InputError, match=says.replace("?", r"\?")) as caught:
        signature(target, "model.temporal")
    assert caught.value.where == "model.temporal._target_"


def test_nothing_is_imported(package: Path) -> None:
    (package / "heads.py").write_text("raise RuntimeError('imported')\nclass Head: ...\n")
    assert signature("parts.heads.Head", "x") is not None
    assert "parts.heads" not in sys.modules


def test_the_libraries_that_the_configuration_names_can_be_read() -> None:
    for target, argument in [
        ("torch.optim.AdamW", "weight_decay"),
        ("pytorch_lightning.Trainer", "max_epochs"),
        ("pytorch_lightning.callbacks.ModelCheckpoint", "monitor"),
        ("pytorch_lightning.loggers.WandbLogger", "project"),
        ("pytorch_lightning.strategies.DDPStrategy", "process_group_backend"),
    ]:
        found = signature(target, "x")
        assert found is not None
        assert argument in found.parameters

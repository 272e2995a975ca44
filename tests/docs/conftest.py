"""The generators of the documentation, imported from scripts/."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def generate_docs() -> ModuleType:
    return _script("generate_docs")


@pytest.fixture(scope="session")
def sql_blocks() -> ModuleType:
    return _script("sql_blocks")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT

"""The package's front door: every name is there, nothing loads before it is used."""

import subprocess
import sys

import pytest

import bindu.dspy


@pytest.mark.parametrize("name", bindu.dspy.__all__)
def test_every_exported_name_loads(name: str) -> None:
    value = getattr(bindu.dspy, name)
    assert value.__module__.startswith("bindu.dspy.")
    assert name in dir(bindu.dspy)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = bindu.dspy.optimise


def test_importing_the_package_loads_none_of_it() -> None:
    code = "import sys, bindu.dspy; print([name for name in sys.modules if name.startswith('bindu.dspy.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

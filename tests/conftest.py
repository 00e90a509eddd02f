"""Shared fixtures."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

DIRECTML = Path(__file__).parent / "directml"
if str(DIRECTML) not in sys.path:
    sys.path.insert(0, str(DIRECTML))

# Read by OpenMP when torch is loaded, here and in the programs that tests start: on a machine with other work, threads
# that wait for each other must not keep the processors busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell that starts the tests in the background has them ignore Ctrl-C, and with them all programs that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_profile_of_the_user() -> Iterator[None]:
    """What the user's own tuning found must not change what is tested; tests of profiles name a file of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REALESRGAN_PROFILE", "off")
        yield


_RAISED: List[Any] = []


@pytest.fixture(scope="session", autouse=True)
def _record_errors() -> Iterator[None]:
    """Every error of ours that a test makes is kept until the test ends."""
    from realesrgan.errors import RealESRGANError

    make = RealESRGANError.__init__

    def made(self: Any, *args: Any, **fields: Any) -> None:
        make(self, *args, **fields)
        _RAISED.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RealESRGANError, "__init__", made)
        yield


@pytest.fixture(autouse=True)
def _korean_has_no_english(request: pytest.FixtureRequest, _record_errors: None) -> Iterator[None]:
    """No error that a test raised, however the test came by it, shows an English sentence to a Korean reader.

    A test that makes such an error on purpose is marked ``english``. What is said once is said once a test.
    """
    from support.sentences import english_for_a_korean

    from realesrgan.errors import SAID

    SAID.clear()
    _RAISED.clear()
    yield
    seen = {(error.code, tuple(error.fields)): error for error in _RAISED}
    _RAISED.clear()
    if request.node.get_closest_marker("english"):
        return
    found = {code: english for (code, _), error in seen.items() for english in [english_for_a_korean(error)] if english}
    assert found == {}, "English in a Korean sentence: pass reasons as errors or phrases (realesrgan/cli/ko.py)"


def _forget_machine() -> None:
    """Clears what the package remembers of this machine's devices."""
    from realesrgan import devices

    devices._found.cache_clear()


@contextmanager
def _standin(**options: Any) -> Iterator[Any]:
    import directml_standin

    simulation = directml_standin.install(directml_standin.Options(**options))
    _forget_machine()
    try:
        yield simulation
    finally:
        directml_standin.remove()
        _forget_machine()
    if simulation.ended:
        pytest.fail(f"the real torch-directml would have ended the process: {simulation.ended}")


@pytest.fixture()
def directml_with() -> Callable[..., Any]:
    """`with directml_with(**Options) as simulation:` torch-directml is installed inside the block, and only there."""
    return _standin


@pytest.fixture()
def directml() -> Iterator[Any]:
    """torch-directml as if installed, with one RX 580 of 8 GiB. Gives the directml_standin.Simulation."""
    with _standin() as simulation:
        yield simulation


@pytest.fixture()
def like_directml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the CPU take the same substitutes, bands and layout as DirectML."""
    from dataclasses import replace

    from realesrgan.backends import BACKENDS

    monkeypatch.setattr(BACKENDS["cpu"], "capabilities", replace(BACKENDS["directml"].capabilities, half=False))


@pytest.fixture()
def directml_env() -> Callable[..., Dict[str, str]]:
    """`directml_env(**Options)`: an environment for subprocesses in which torch-directml is as if installed."""

    def environment(**options: Any) -> Dict[str, str]:
        from directml_standin import OPTIONS_VARIABLE, Options

        path = os.pathsep.join(filter(None, [str(DIRECTML / "site"), os.environ.get("PYTHONPATH", "")]))
        return {**os.environ, "PYTHONPATH": path, OPTIONS_VARIABLE: Options(**options).to_json()}

    return environment

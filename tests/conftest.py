"""What all tests share."""

import gc
import os
import signal

import pytest
from hypothesis import settings

# One thread is one thread for compiled trees as well: on a few rows two of them spend most of their time waiting for each other.
if "OMP_NUM_THREADS" in os.environ:
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

# What is imported stays, and need not be looked through for cycles every few hundred objects.
gc.set_threshold(20_000)

# A busy machine is no fault of the code, and CI must find today what it found yesterday.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

# A job that a shell starts in the background ignores Ctrl-C from birth; the tests that press it want it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is asked of one method stands together: its tests share its answers, which a second worker would have to ask for again."""
    kept = [i for i, item in enumerate(items) if "conformance" in item.path.parts and hasattr(item, "callspec") and "name" in item.callspec.params]
    for i, item in zip(kept, sorted((items[i] for i in kept), key=lambda item: item.callspec.params["name"]), strict=True):
        items[i] = item

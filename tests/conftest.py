"""What all tests share."""

import gc
import os
import signal

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

"""What all tests share."""

import signal

from hypothesis import settings

# A busy machine is no fault of the code, and CI must find today what it found yesterday.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

# A job that a shell starts in the background ignores Ctrl-C from birth; the tests that press it want it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)

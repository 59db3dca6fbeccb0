"""What all tests share."""

from hypothesis import settings

# A busy machine is no fault of the code, and CI must find today what it found yesterday.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

"""What all tests share: property tests try the same examples in every run unless told to explore; signals are heeded.

``HYPOTHESIS_PROFILE=explore`` tries new examples each time; what it finds is added to the tests as an example.
"""

import os
import signal

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# A shell's background job ignores these, and so would every process that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

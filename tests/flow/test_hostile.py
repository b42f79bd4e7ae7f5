"""Gateway and monitor against requests, and a broker, with faults in them. SPDX-License-Identifier: MIT"""
import os
import random
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fuzz"))

import sockets  # noqa: E402


def test_requests_with_faults_harm_nobody(binaries):
    """The short form of tests/fuzz/sockets.py, whose SEED is printed."""
    sockets.campaign(binaries, 10, random.randrange(1 << 32))

"""Mail into smtp-sink beside a bare libcurl loop, in small; tests/rates/mail.py is the long form.

SPDX-License-Identifier: MIT"""
import os
import sys

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "rates"))

from mail import SINK, Sink, loop_rate, worker_rate  # noqa: E402


class Skip(Exception):
    pass


def test_mail_goes_about_as_fast_as_bare_libcurl(binaries):
    if not os.path.exists(SINK):
        raise Skip("smtp-sink (Debian's postfix) isn't installed")
    with Sink() as sink:
        ratios = []
        for _ in range(3):  # on a busy machine one of them may be off
            loop = loop_rate("multi", binaries, sink, 10, 3000, 200)
            ratios.append(worker_rate(binaries, sink, 10, 3000, 200) / loop)
            if ratios[-1] >= 0.3:  # tests/rates/mail.py has the real bound
                return
        raise AssertionError(f"ratios to the loop: {ratios}")


def test_a_worker_does_not_grow(binaries):
    """Its memory after ten thousand mails is what it was after a tenth of them."""
    if not os.path.exists(SINK):
        raise Skip("smtp-sink (Debian's postfix) isn't installed")
    if "asan" in binaries:
        raise Skip("the sanitizer keeps what is freed")
    seen = {}

    def memory(pid):
        with open(f"/proc/{pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    with Sink() as sink:
        worker_rate(binaries, sink, 10, 10000, 200, before=lambda pid: seen.update(pid=pid, first=memory(pid)),
                    after=lambda pid: seen.update(last=memory(pid)))
    assert seen["last"] < seen["first"] + 8192, seen

"""A disk that fills up: nothing lost, nothing crashes, and room brings it back.
SPDX-License-Identifier: MIT

The disk is a tmpfs of the test's own. It is filled from outside (a file that grows and goes) and
from inside (publishing until it is refused); the broker is killed while it is full."""
import os
import resource
import signal
import subprocess
import tempfile
import time

from load import Seldom
from support import Publisher, wait_for

TOPICS = """defaults
    retry_base = 10ms
    retry_cap = 50ms
    attempts = 4
    lease = 5s"""
NAMES = ["api", "db"]
SERVER = "segment = {segment}MiB\nmax_message = 256KiB\nmax_event = 64KiB"
PAD = 8000  # bytes of payload at most: a disk of 64 MiB is full within a second
MIB = 1 << 20


class Disk:
    """A small file system, and a file on it that takes the room of others."""

    def __init__(self, run, mib):
        self.run, self.mib = run, mib

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="ef-disk-")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.mib}m", "eventflow-test",
                               self.path], capture_output=True, text=True)
        if done.returncode:
            os.rmdir(self.path)
            raise self.run.Skip(f"a tmpfs can't be mounted: {done.stderr.strip()}")
        self.data = os.path.join(self.path, "data")
        self.ballast = os.path.join(self.path, "ballast")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=False)
        os.rmdir(self.path)

    def free(self):
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self, left):
        """Takes all but `left` bytes."""
        with open(self.ballast, "ab") as file:
            try:
                os.posix_fallocate(file.fileno(), file.tell(), max(1, self.free() - left))
            except OSError:
                pass  # the broker was faster; the disk is as full as can be

    def release(self):
        if os.path.exists(self.ballast):
            os.unlink(self.ballast)


def space(broker):
    return broker.admin(["STATUS"])[1]["broker"].get("space")


def full(run):
    with run.broker(TOPICS).start() as broker:
        if space(broker) is None:
            raise run.Skip("this broker's STATUS has no \"space\"")
    fresh_without_room(run)
    limited(run)
    reports = []
    count = 20
    for mib, segment in ((32, 1), (64, 4)):  # reserves alone take 18 and 30
        with Disk(run, mib) as disk, run.broker(
                TOPICS, SERVER.format(segment=segment), disk.data) as broker:
            reports.append(rounds(run, disk, broker, run.rounds(count // 2, 100)))
    run.say("; ".join(reports))


def rounds(run, disk, broker, numbers):
    broker.start()
    load = run.load(broker, NAMES, pad=PAD)
    load.outstanding, load.batch = 8, 20
    kills = 0
    try:
        for _, _ in numbers:
            dice = run.dice()
            load.reseed(dice)
            load.codes.clear()
            if dice.random() < 0.6:
                load.pump_for(dice.random() * 0.3)
                disk.fill(dice.choice([0, 4096, MIB // 2, 2 * MIB, 5 * MIB]))
            for worker in load.workers:  # nothing ends now, so what is left fills from inside
                worker.send(["CREDIT", 0])
            load.pump("publishers are refused", lambda: load.codes.get("NO_SPACE"), 60)
            # What was in hand may have ended meanwhile and made room again: the log knows.
            assert 'notice.space topic= detail="low"' in broker.logged(), broker.logged()
            only_no_space(load)
            if dice.random() < 0.4:
                broker.kill()
                broker.start()  # on a full disk
                load.reconnect()
                kills += 1
            answers_go_on(load)
            assert broker.process.poll() is None, broker.logged()
            disk.release()
            load.publishing = False  # what is there ends, and with it the journal's segments
            load.drain(120)
            wait_for("it is normal again by itself", lambda: space(broker) == "normal")
            load.publishing = True
            load.pump_confirms(50)
            load.judge(120)
    finally:
        load.close()
    broker.stop(40)
    return f"{disk.mib} MiB: {load.ledger.total} confirmed, 0 lost, {kills} kills while full"


def only_no_space(load):
    strange = set(load.codes) - {"NO_SPACE"}
    assert not strange, f"refused for other reasons: {strange}"


def answers_go_on(load):
    """ACKs, NACKs and dead letters work on a full disk."""
    for worker in load.workers:
        worker.send(["CREDIT", 2000])
    done = load.ledger.certain
    load.pump("ACKs are durable", lambda: load.ledger.certain > done
              or Seldom(lambda: load.ledger.is_drained(load.broker))(), 60)


def fresh_without_room(run):
    """No room for the reserve of a new data directory: it refuses and says how much it needs."""
    with Disk(run, 24) as disk, run.broker(TOPICS, SERVER.format(segment=4), disk.data) as broker:
        disk.fill(MIB)
        broker.launch()
        status = broker.linger(60)
        assert status == 74, (status, broker.logged())
        assert "refused" in broker.logged() and any(c.isdigit() for c in broker.logged().split(
            "reason=")[-1]), broker.logged()


def limited(run):
    """No file may grow past a limit (EFBIG). It goes on, or it ends with a reason."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, resource.RLIM_INFINITY))
    with run.broker(TOPICS, SERVER.format(segment=1)) as broker:
        broker.start()
        publisher = Publisher(broker)
        publisher.publish([["api", "before", 1]])
        assert publisher.confirm()[2]["accepted"] == 1
        publisher.close()
        broker.kill()
        with open(broker.log, "a") as log:
            broker.process = subprocess.Popen(
                [os.path.join(run.binaries, "eventflowd"), "--config", broker.config], stderr=log,
                env=broker.environment, preexec_fn=limit)
        deadline = time.monotonic() + 10
        while broker.linger(0.05) is None and time.monotonic() < deadline:
            try:
                publisher = Publisher(broker)
                publisher.publish([["api", None, bytes(50000)] for _ in range(4)])
                publisher.confirm(1)
                publisher.close()
            except AssertionError:
                pass  # it has ended, or it refuses to say anything
        assert broker.process.poll() in (None, 74), broker.logged()
        if broker.process.poll() is None:
            assert space(broker) is not None, "it doesn't answer"
            broker.kill()
        broker.start()
        assert broker.topic("api")["accepted"] >= 1
        broker.check_law()

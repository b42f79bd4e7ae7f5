"""kill -9 and power cuts of the broker under load. SPDX-License-Identifier: MIT"""
import os
import shutil
import time

from undo import power_cut

TOPICS = """defaults
    retry_base = 10ms
    retry_cap = 50ms
    attempts = 4
    lease = 5s
tiny
    capacity = 50
    overflow_rate = 2000/s
    insert_attempts = 2
    insert_base = 10ms"""
NAMES = ["api", "db", "email", "tiny"]
SERVER = "segment = 256KiB"
JUDGED_EVERY = 20  # rounds: the ledger stays small, and a drained broker is met too


def kill(run):
    """SIGKILL at random moments and right after the journal's files changed."""
    with run.broker(TOPICS, SERVER) as broker:
        campaign(run, broker, run.rounds(30, 1000), {}, lambda dice: "")


def powercut(run):
    """SIGKILL, then everything that wasn't synced may be taken back."""
    with run.broker(TOPICS, SERVER) as broker:
        shadow = os.path.join(broker.directory, "shadow")
        os.mkdir(shadow)
        extra = {"LD_PRELOAD": run.shim("dropsync"), "DROPSYNC_DATA": broker.data,
                 "DROPSYNC_SHADOW": shadow}
        if not os.path.exists(extra["LD_PRELOAD"]):
            raise run.Skip("tests/libdropsync.so isn't built")

        def cut(dice):
            spare = os.path.join(broker.directory, "before")  # what a failure is looked into with
            shutil.rmtree(spare, ignore_errors=True)
            shutil.copytree(broker.data, spare)
            taken = power_cut(broker.data, shadow, dice)
            again = ""
            if dice.random() < 0.2:  # recovery is cut too
                broker.launch(extra)
                broker.linger(dice.random() * 0.05)
                broker.kill()
                more = power_cut(broker.data, shadow, dice)
                again = f", in recovery {more[0]} bytes, {more[1]} names"
            return f", taken back {taken[0]} bytes, {taken[1]} names{again}"

        campaign(run, broker, run.rounds(40, 1000), extra, cut)


def campaign(run, broker, rounds, extra, cut):
    broker.start(extra)
    load = run.load(broker, NAMES)
    recoveries = []
    try:
        for _, is_last in rounds:
            dice = run.dice()
            load.reseed(dice)
            load.pump_confirms(dice.randrange(1000, 1500))
            strike(broker, load, dice)
            broker.kill()
            taken = cut(dice)
            start = time.monotonic()
            broker.start(extra)
            recoveries.append(time.monotonic() - start)
            broker.check_law()
            load.reconnect()
            report = f"{load.ledger.total} confirmed{taken}"
            if run.number % JUDGED_EVERY == 0 or is_last:
                report += ", judged: %d confirmed, %d done for certain, %d dead" % load.judge()
            if run.number % 10 == 0 or is_last or taken:
                run.say(report)
    finally:
        load.close()
    recoveries.sort()
    run.say(f"{load.ledger.total} confirmed, 0 lost; recovery "
            f"p50 {recoveries[len(recoveries) // 2] * 1000:.0f} ms, "
            f"p99 {recoveries[int(len(recoveries) * 0.99)] * 1000:.0f} ms, "
            f"max {recoveries[-1] * 1000:.0f} ms")
    most = 2 if run.is_long else 10  # of some rounds the worst is a busy machine's
    assert recoveries[int(len(recoveries) * 0.99)] < most, f"p99 of recovery is over {most} s"
    broker.stop(40)


def strike(broker, load, dice):
    """Goes on for a moment: a random one, or until a file comes, goes or gets another name."""
    journal = os.path.join(broker.data, "journal")
    if dice.random() < 0.5:
        load.pump_for(dice.random() * 0.1)
        return
    before, end = os.listdir(journal), time.monotonic() + 0.5
    load.pump("a file changes", lambda: os.listdir(journal) != before
              or time.monotonic() > end, 10)

"""Workers that are killed, workers and brokers that stand still. SPDX-License-Identifier: MIT"""
import os
import signal
import time

import msgpack

from support import Publisher, Worker, wait_for

LEASE = 0.6    # seconds
HELD_LEASE = 2 # where a test must act before a lease ends
SHORT_LIFE = 10.5  # seconds; five in a row that end sooner are a crash loop for the pool
RECORD = "echo $EVENTFLOW_ID >>"

POOLED = """defaults
    retry_base = 10ms
    retry_cap = 50ms
    attempts = 20
    lease = 600ms
email
    pool
        command = "exec {program} exec --concurrency 4 -- sh -c '{record}{lines}'"
        min = 2
        max = 2
        cooldown = 50ms"""


class Process:
    """What /proc says about one process."""

    def __init__(self, pid):
        with open(f"/proc/{pid}/stat") as file:
            name, _, rest = file.read().rpartition(")")
        self.pid, self.name = pid, name.partition("(")[2]
        fields = rest.split()
        self.state, self.parent = fields[0], int(fields[1])
        begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        self.age = time.clock_gettime(time.CLOCK_BOOTTIME) - begun


def family(broker):
    """Processes that were started for this broker's workers, their commands too."""
    wanted = ("EVENTFLOW_BACK=" + broker.endpoints["back"]).encode()
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            process = Process(int(pid))
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0") or process.parent == broker.process.pid:
                    found[process.pid] = process
        except (OSError, ValueError):
            continue
    return found


def strays(broker):
    """Zombies and orphans among them."""
    found = family(broker)
    return [(p.pid, p.name, p.state) for p in found.values() if p.state == "Z" or (
        p.parent not in (broker.process.pid, os.getpid()) and p.parent not in found)]


class Victims:
    """Processes of our own, those of the broker's pool, and plain DEALERs."""

    def __init__(self, broker, load, lines):
        self.broker, self.load, self.lines = broker, load, lines
        self.killed = self.pool_killed = 0
        self.earlier = set()  # of the round before: a command may outlive its worker for a moment
        self.processes = [self.process() for _ in range(3)]

    def process(self):
        return self.broker.worker_process("--concurrency", "4", "--", "sh", "-c",
                                          RECORD + self.lines, topic="api")

    def kill(self, dice):
        kind = dice.choice(["own", "own", "dealer", "dealer", "pool"])
        if kind == "own":
            at = dice.randrange(len(self.processes))
            self.processes[at].kill()
            self.processes[at].wait()
            self.processes[at] = self.process()
        elif kind == "dealer":  # it vanishes without a word, another one comes
            dice.choice(self.load.workers).connect()
        elif not self.kill_of_pool(dice):
            return
        self.killed += 1

    def kill_of_pool(self, dice):
        pool = [p for p in family(self.broker).values() if p.parent == self.broker.process.pid
                and p.name.startswith("eventflow-worke")
                and (p.age > SHORT_LIFE or self.pool_killed < 3)]
        if pool:
            os.kill(dice.choice(pool).pid, signal.SIGKILL)  # the broker hasn't reaped it yet
            self.pool_killed += 1
        return pool

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


def workers(run):
    """kill -9 of worker processes, and connections of plain DEALERs that vanish, under load."""
    if not os.path.exists("/proc/self/environ"):
        raise run.Skip("there is no /proc")
    with run.broker(server="segment = 1MiB") as broker:
        lines = os.path.join(broker.directory, "lines")
        open(lines, "w").close()
        with open(broker.config, "a") as file:
            file.write("\n".join("    " + x for x in POOLED.format(
                program=run.binaries + "/eventflow-worker", record=RECORD, lines=lines).splitlines()) + "\n")
        broker.start()
        load = run.load(broker, ["api", "db", "email"], workers=3, worked=["db"])
        load.outstanding, load.batch = 1, 8
        victims = Victims(broker, load, lines)
        try:
            for _, is_last in run.rounds(8, 500):
                report = round_of_kills(broker, load, victims, run.dice())
                if run.number % 10 == 0 or is_last:
                    run.say(f"{victims.killed} killed, {load.ledger.total} confirmed, 0 lost, "
                            "last: %d confirmed, %d done for certain, %d dead" % report)
        finally:
            victims.close()
            load.close()
        redelivered_in_time(broker)
        broker.stop(40)
        wait_for("no worker is left", lambda: not family(broker))


def round_of_kills(broker, load, victims, dice):
    load.reseed(dice)
    for _ in range(20):  # a victim about every 50 ms
        load.pump_for(dice.random() * 0.1)
        load.publishing = all(  # processes are slow
            broker.topic(t)["ready"] < 100 for t in load.topics)
        victims.kill(dice)
    load.drain()
    with open(victims.lines) as file:
        names = set(file.read().split())
    assert names <= load.ledger.sent | victims.earlier, "an exec worker got what nobody sent"
    load.ledger.answered.update(names)
    os.truncate(victims.lines, 0)
    victims.earlier = load.ledger.sent
    report = load.judge()
    wait_for("no zombies, no orphans", lambda: not strays(broker))
    return report


def redelivered_in_time(broker):
    """A worker without heartbeat vanishes: what it held comes again within its lease and 1 s."""
    for number in range(3):  # on a busy machine one of them may be late
        publisher, first = Publisher(broker), Worker(broker, ["db"])
        publisher.publish([["db", f"held{number}", 1]])
        publisher.confirm()
        assert first.take(1)[0][1] == 1
        first.close()
        start, second = time.monotonic(), Worker(broker, ["db"])
        tag, attempt = second.take(1)[0][:2]
        took = time.monotonic() - start
        assert attempt == 2, attempt
        second.send(["ACK", [tag], {"seq": 1}])
        assert second.receive("ACKED")[2]["done"] == 1
        second.send(["BYE"])
        wait_for("it has left", lambda: broker.topic("db")["leased"] == 0)
        second.close()
        publisher.close()
        if took < LEASE + 1:
            return
    raise AssertionError(f"what was held came again after {took:.1f} s")


def is_over(pid, running):
    assert pid not in running or len(running) == 1, "two commands are at the same work"
    return pid not in running


def orphan(run):
    """A worker that is killed takes its running command with it: the event comes again, and two
    commands would be two at the same work."""
    topics = f"""defaults
    lease = 600ms
slow
    pool
        command = "exec {run.binaries}/eventflow-worker exec -- sleep 600"
        min = 1
        max = 1
        cooldown = 50ms"""
    with run.broker(topics).start() as broker:
        publisher = publish(broker, "slow", "long", 1)
        sleeps = lambda: [p for p in family(broker).values() if p.name == "sleep"]
        first = wait_for("the command runs", sleeps)[0]
        try:
            os.kill(first.parent, signal.SIGKILL)
            wait_for("its command is gone", lambda: is_over(first.pid, {p.pid for p in sleeps()}))
            wait_for("no zombies, no orphans", lambda: not strays(broker))
        finally:
            broker.admin(["PURGE", "slow"])
            for pid in {first.pid} | {p.pid for p in sleeps()}:
                if pid in family(broker):
                    os.kill(pid, signal.SIGKILL)
            publisher.close()


HELD = """defaults
    retry_base = 10ms
    attempts = 50
    lease = 2s
late
held"""


def stop(run):
    """SIGSTOP of workers and of the broker for half to three leases."""
    with run.broker(HELD).start() as broker:
        for _, is_last in run.rounds(3, 100):
            dice = run.dice()
            late_answers(broker, run.number)
            stopped_process(run, broker)
            stopped_under_load(run, broker, dice)
            if run.number % 10 == 0 or is_last:
                run.say("no answer counted twice, nothing lost")


def absence(run):
    """SIGSTOP of the broker alone: neither leases nor peers are judged by that."""
    with run.broker(HELD).start() as broker:
        for number, _ in run.rounds(4, 50):
            absent_broker(broker, number, [0.5, 1, 2, 3][number % 4])


def publish(broker, topic, label, count):
    publisher = Publisher(broker)
    publisher.publish([[topic, f"{label}-{i}", i] for i in range(count)])
    header = publisher.confirm()
    assert header[2]["accepted"] == count, header
    return publisher


def ended(broker, topic):
    item = broker.topic(topic)
    return item["done"], item["dead"], item["failed"]


def late_answers(broker, number):
    """A worker answers after another one got its events: stale, and nothing counts twice."""
    done, dead, _ = ended(broker, "late")
    publisher = publish(broker, "late", f"late{number}", 10)
    first = Worker(broker, ["late"], credit=10)
    held = {e[2][1]: e[0] for e in first.take(10)}
    second = Worker(broker, ["late"], credit=10)
    taken = {e[2][1]: e for e in second.take(10)}
    assert set(taken) == set(held) and all(e[1] == 2 for e in taken.values()), taken
    names = sorted(taken)
    second.send(["ACK", [taken[n][0] for n in names[:5]], {"seq": 1}])
    assert second.receive("ACKED")[2]["done"] == 5
    first.send(["ACK", [held[n] for n in names], {"seq": 1}])  # done there, or leased there
    answer = first.receive("ACKED")[2]
    assert answer["done"] == 0 and sorted(answer["stale"]) == sorted(held.values()), answer
    second.send(["ACK", [taken[n][0] for n in names[5:]], {"seq": 2}])
    assert second.receive("ACKED")[2]["done"] == 5
    assert ended(broker, "late")[:2] == (done + 10, dead), (done, ended(broker, "late"))
    for peer in (first, second, publisher):
        peer.close()


def stopped_process(run, broker):
    """The same with a real worker process that stands still."""
    done, dead, _ = ended(broker, "email")
    process = broker.worker_process("--", "sleep", "1.5", topic="email")
    try:
        wait_for("the worker is there", lambda: broker.topic("email")["workers"] == 1)
        publisher = publish(broker, "email", f"stop{run.number}", 1)
        wait_for("it works", lambda: broker.topic("email")["leased"] == 1)
        process.send_signal(signal.SIGSTOP)
        second = Worker(broker, ["email"])
        tag, attempt = second.take(1)[0][:2]
        assert attempt == 2, attempt
        process.send_signal(signal.SIGCONT)  # it finishes its command and answers, too late
        end = time.monotonic() + 0.3
        wait_for("the late answer came", lambda: time.monotonic() > end, 1)
        assert ended(broker, "email")[0] == done, "a stale answer ended an event that is leased"
        second.send(["ACK", [tag], {"seq": 1}])
        answer = second.receive("ACKED")[2]
        assert answer["done"] == 1, answer
        assert ended(broker, "email")[:2] == (done + 1, dead)
        second.send(["BYE"])
        wait_for("it has left", lambda: broker.topic("email")["workers"] == 1)
        second.close()
        publisher.close()
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()  # it says BYE
        process.wait(timeout=60)
    wait_for("both are forgotten", lambda: broker.topic("email")["workers"] == 0)


def absent_broker(broker, number, leases):
    """The broker stands still: its peers and leases aren't judged by that."""
    before = ended(broker, "held")
    publisher = publish(broker, "held", f"absent{number}", 10)
    worker = Worker(broker, ["held"], heartbeat=200)
    tags = [e[0] for e in worker.take(10)]
    publisher.revive(0)
    broker.process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + leases * HELD_LEASE
    wait_for("leases pass", lambda: time.monotonic() > end)
    broker.process.send_signal(signal.SIGCONT)
    worker.send(["ACK", tags, {"seq": 1}])
    publisher.send(["PUBLISH", 2], msgpack.packb(["held", f"after{number}", 1]))
    answer = worker.receive("ACKED")[2]
    assert answer["done"] == 10 and not answer.get("stale"), (leases, answer)
    after = ended(broker, "held")
    assert after == (before[0] + 10, before[1], before[2]), (leases, before, after)
    assert publisher.confirm()[2]["accepted"] == 1  # its session lives
    tag = worker.take(1)[0][0]
    worker.send(["ACK", [tag], {"seq": 2}])
    assert worker.receive("ACKED")[2]["done"] == 1
    worker.close()
    publisher.close()


def stopped_under_load(run, broker, dice):
    """Stops of all lengths under load, and the ledger."""
    load = run.load(broker, ["api", "db"])
    try:
        for topic in load.topics:  # what the round did before is no event of this ledger
            load.ledger.base[topic] = {k: broker.topic(topic)[k] for k in ("accepted", "done")}
        for peer in load.publishers:
            peer.name = f"r{run.number}{peer.name}"
        for _ in range(3):
            load.pump_confirms(300)
            broker.process.send_signal(signal.SIGSTOP)
            load.pump_for(dice.uniform(0.1, 3) * HELD_LEASE)
            broker.process.send_signal(signal.SIGCONT)
        load.judge()
    finally:
        load.close()

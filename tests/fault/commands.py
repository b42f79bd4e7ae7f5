"""Workers that run commands, killed and told to end under load. SPDX-License-Identifier: MIT

Every way of exec works on the events of a topic: a command for each, persistent children and
batches, in processes of our own and in the broker's pools. A command notes its event when its work
is done, behind all else that it does: an event that counts as done and was never noted is lost."""
import os
import signal
import sys
import time

from peers import SHORT_LIFE, family, strays
from support import wait_for

GRACE = 60  # seconds for a process that was told to end: its own 10, and commands that are killed

# Notes and answers each event a few ms after it came.
CHILD = """import json, os, random, sys, time
notes = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for line in sys.stdin:
    request = json.loads(line)
    if "event" in request:
        time.sleep(random.random() * 0.004)
        os.write(notes, (request["event"]["id"] + chr(10)).encode())
        print(json.dumps({"tag": request["tag"], "result": "done"}), flush=True)
"""

# It leaves a child behind, in a session of its own.
EACH = 'setsid sleep 60 & cat >/dev/null; echo "$EVENTFLOW_ID" >> {notes}'
BATCH = """sed -n 's/^{{"id":"\\([^"]*\\)".*/\\1/p' >> {notes}"""

TOPICS = """defaults
    retry_base = 10ms
    retry_cap = 50ms
    attempts = 50
    lease = 2s
    dedupe = 1s
api
db
jobs
email
    pool
        command = "exec {program} exec --concurrency 3 -- sh {directory}/each"
        min = 2
        max = 2
        cooldown = 50ms
bulk
    pool
        command = "exec {program} exec --persistent --children 2 --per-child 4 --concurrency 8 -- {python} -S {directory}/child.py {notes}"
        min = 1
        max = 2
        cooldown = 50ms"""

OWN = {"api": ["--concurrency", "4", "--", "sh", "{directory}/each"],
       "db": ["--persistent", "--children", "2", "--per-child", "10", "--concurrency", "20", "--max-events", "100",
              "--", "{python}", "-S", "{directory}/child.py", "{notes}"],
       "jobs": ["--batch", "10", "--concurrency", "20", "--whole", "--", "sh", "{directory}/batch"]}


class Commands:
    """The processes, ours and the pools', and what happens to them."""

    def __init__(self, broker, directory):
        self.broker = broker
        self.names = {"directory": directory, "notes": directory + "/notes", "python": sys.executable,
                      "program": os.path.join(broker.binaries, "eventflow-worker")}
        self.counts = {"worker": 0, "pool": 0, "term": 0, "launcher": 0, "command": 0}
        self.processes, self.leaving = {}, []
        for name, text in (("child.py", CHILD), ("each", EACH.format(**self.names)),
                           ("batch", BATCH.format(**self.names)), ("notes", "")):
            with open(os.path.join(directory, name), "w") as file:
                file.write(text)

    def start(self):
        self.processes = {(topic, i): self.process(topic) for topic in OWN for i in range(2)}

    def process(self, topic):
        return self.broker.worker_process(*[word.format(**self.names) for word in OWN[topic]], topic=topic)

    def strike(self, dice):
        kind = dice.choice(["worker", "worker", "pool", "term", "launcher", "command"])
        if kind in ("worker", "term"):
            key = dice.choice(sorted(self.processes))
            process = self.processes[key]
            if kind == "term" and process.pid not in self.ready():
                return  # one that hasn't begun yet dies of it, as any program
            process.send_signal(signal.SIGTERM if kind == "term" else signal.SIGKILL)
            self.processes[key] = self.process(key[0])
            if kind == "term":
                self.leaving.append((time.monotonic() + GRACE, process))
            else:
                process.wait()
        elif not self.strike_by_name(kind, dice):
            return
        self.counts[kind] += 1

    def ready(self):
        """Workers that the broker knows: they take signals by now."""
        return {item["pid"] for item in self.broker.admin(["WORKERS"])[1]["items"]}

    def strike_by_name(self, kind, dice):
        found = [p for p in family(self.broker).values() if p.state != "Z" and self.fits(kind, p)]
        if found:
            try:
                os.kill(dice.choice(found).pid, signal.SIGKILL)
            except ProcessLookupError:  # it has ended meanwhile
                return False
        return bool(found)

    def fits(self, kind, process):
        is_worker = process.name.startswith("eventflow-worke")
        is_launcher = process.name.startswith("eventflow-launc")
        if kind == "pool":  # those that live shorter are a crash loop for the pool
            return is_worker and process.parent == self.broker.process.pid and (
                process.age > SHORT_LIFE or self.counts["pool"] < 3)
        return is_launcher if kind == "launcher" else not is_worker and not is_launcher and (
            process.parent != self.broker.process.pid)

    def look_after(self):
        """Who was told to end does, in time and without a complaint."""
        now = time.monotonic()
        for item in list(self.leaving):
            deadline, process = item
            code = process.poll()
            assert code in (None, 0), f"a worker that was told to end ended with {code}"
            assert code == 0 or now < deadline, f"a worker told to end is there after {GRACE} s"
            if code == 0:
                self.leaving.remove(item)
        return not self.leaving

    def close(self):
        for process in [*self.processes.values(), *(process for _, process in self.leaving)]:
            process.kill()
            process.wait()


def commands(run):
    """kill -9 and TERM of workers of every kind, of launchers and of commands, under load."""
    if not os.path.exists("/proc/self/environ"):
        raise run.Skip("there is no /proc")
    with run.broker(server="segment = 1MiB") as broker:
        parts = Commands(broker, broker.directory)
        with open(broker.config, "a") as file:
            file.write("\n".join("    " + x for x in TOPICS.format(**parts.names).splitlines()) + "\n")
        broker.start()
        parts.start()
        load = run.load(broker, ["api", "db", "jobs", "email", "bulk"], workers=0)
        load.outstanding, load.batch = 1, 16
        first = None
        try:
            for number, is_last in run.rounds(3, 60):
                report = round_of_strikes(broker, load, parts, run.dice())
                now = settled(broker, parts)
                first = now if number <= run.options.start_round + 1 else first  # once all is warm
                flat(broker, first)
                if number % 10 == 0 or is_last:
                    run.say(f"{parts.counts}, {load.ledger.total} confirmed, 0 lost; broker: {now[0]} descriptors, "
                            f"{now[1]} KiB; last: {report[0]} confirmed, {report[2]} dead")
        finally:
            parts.close()
            load.close()
        wait_for("no process of ours is left", lambda: all(
            p.parent == broker.process.pid or p.parent in family(broker) for p in family(broker).values()))
        broker.stop(40)
        wait_for("no worker is left", lambda: not family(broker))


def round_of_strikes(broker, load, parts, dice):
    load.reseed(dice)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        load.pump_for(dice.random() * 0.2)
        items = {item["topic"]: item["ready"] for item in broker.admin(["TOPICS"])[1]["items"]}
        load.publishing = all(items[topic] < 200 for topic in load.topics)  # commands are slow
        parts.strike(dice)
        parts.look_after()
    load.drain(180)
    with open(parts.names["notes"]) as file:
        load.ledger.answered.update(file.read().split("\n"))
    os.truncate(parts.names["notes"], 0)
    return load.judge()


def settled(broker, parts):
    """No zombies, no orphans; the broker's descriptors and KiB of its own memory."""
    wait_for("who was told to end has ended", parts.look_after, GRACE + 5)
    wait_for("no zombies, no orphans", lambda: not strays(broker))
    wait_for("nothing runs on", lambda: not [
        p for p in family(broker).values() if p.name == "sleep" or p.name == "sh"])
    workers = len(parts.processes) + 3
    wait_for("all workers are there", lambda: len(broker.admin(["WORKERS"])[1]["items"]) >= workers, 180)
    return len(descriptors(broker)), memory(broker)


def descriptors(broker):
    """What each one is."""
    folder, found = f"/proc/{broker.process.pid}/fd", []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{name}").split("[")[0])
        except OSError:  # closed meanwhile
            continue
    return found


def memory(broker):
    with open(f"/proc/{broker.process.pid}/status") as file:
        return int(file.read().split("RssAnon:")[1].split()[0])


def flat(broker, first):
    """Connections of those who were killed take a moment to be closed."""
    try:
        wait_for("as many descriptors as before", lambda: len(descriptors(broker)) <= first[0] + 12)
    except AssertionError as error:
        now = descriptors(broker)
        raise AssertionError(f"{first[0]} descriptors, now { {n: now.count(n) for n in set(now)} }") from error
    assert memory(broker) <= first[1] + (16 << 10), f"{first[1]} KiB of memory, now {memory(broker)}"

"""Starting a broker of one's own, and small clients for it. SPDX-License-Identifier: MIT"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import msgpack
import zmq

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from ports import free_ports  # noqa: E402, F401

NAMES = ("ingress", "front", "back", "admin", "stats")


def wait_for(what, condition, seconds=60.0):
    """Waits for a condition with a deadline; returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        select_pause()


def select_pause():
    """A short pause between two looks; every wait has a deadline around it."""
    import select
    select.select([], [], [], 0.01)


class Broker:
    """One eventflowd on a fresh directory and ephemeral ports."""

    def __init__(self, binaries, topics="", server="", environment=None, routes=None):
        self.binaries = os.path.abspath(binaries)
        self.directory = tempfile.mkdtemp(prefix="ef-test-")
        self.data = os.path.join(self.directory, "data")
        self.log = os.path.join(self.directory, "log")
        self.environment = dict(os.environ, **(environment or {}))
        if "asan" in binaries:  # libzmq 4.3.4 leaves a few hundred bytes of a closing connection behind
            self.environment["LSAN_OPTIONS"] = "suppressions=" + os.path.join(
                os.path.dirname(os.path.abspath(__file__)), "lsan.supp")
        if "tsan" in binaries:
            self.environment["TSAN_OPTIONS"] = "suppressions=" + os.path.join(
                os.path.dirname(os.path.abspath(__file__)), "tsan.supp")
        ports = free_ports(5)
        self.endpoints = {n: f"tcp://127.0.0.1:{p}" for n, p in zip(NAMES, ports)}
        lines = ["server", f'    data = "{self.data}"']
        lines += [f'    {n} = "{e}"' for n, e in self.endpoints.items()]
        lines += ["    " + line for line in server.splitlines()]
        lines += ["topic"] + ["    " + line for line in topics.splitlines()]
        if routes is not None:  # else those of the defaults
            lines += ["routes"] + ["    " + line for line in routes.splitlines()]
        self.config = os.path.join(self.directory, "eventflow.cfg")
        with open(self.config, "w") as file:
            file.write("\n".join(lines) + "\n")
        self.context = zmq.Context()
        self.process = None
        self.programs = []  # workers, which end with it at the latest

    def launch(self, extra=None):
        """Starts it and doesn't wait until it answers."""
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [os.path.join(self.binaries, "eventflowd"), "--config", self.config],
                stderr=log, env=dict(self.environment, **(extra or {})))

    def start(self, extra=None):
        self.launch(extra)
        wait_for("the broker answers", self.alive)
        return self

    def alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"eventflowd ended with {self.process.returncode}:\n{self.logged()}")
        try:
            status = self.admin(["STATUS"], seconds=5)
            return None if status[1]["broker"].get("recovering") else status
        except TimeoutError:
            return None

    def logged(self):
        with open(self.log) as file:
            return file.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=60):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=seconds)
        assert code == 0, f"eventflowd ended with {code}:\n{self.logged()}"

    def close(self):
        for program in self.programs:
            if program.poll() is None:
                program.kill()
                program.wait()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:  # a second word, where something is leased that nobody will answer
                self.process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                self.process.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()
        self.context.destroy(linger=0)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def socket(self, kind, name):
        sock = self.context.socket(kind)
        sock.linger = 0
        sock.reconnect_ivl = 10  # ms; the first try often comes before the broker has bound
        sock.connect(self.endpoints[name])
        return sock

    def admin(self, request, seconds=30.0):
        with self.socket(zmq.REQ, "admin") as sock:
            sock.send(msgpack.packb(request))
            if not sock.poll(int(seconds * 1000)):
                raise TimeoutError(request)
            return msgpack.unpackb(sock.recv())

    def topic(self, name):
        for item in self.admin(["TOPICS"])[1]["items"]:
            if item["topic"] == name:
                return item
        raise AssertionError(f"no topic {name}")

    def check_law(self):
        states = "ready leased scheduled retrying parked done dead archived purged".split()
        for item in self.admin(["TOPICS"])[1]["items"]:
            assert item["accepted"] == sum(item[s] for s in states), item

    def cli(self, *words, input=None, code=0, seconds=120):
        environment = dict(self.environment)
        for name, endpoint in self.endpoints.items():
            environment["EVENTFLOW_" + name.upper()] = endpoint
        done = subprocess.run([os.path.join(self.binaries, "eventflow"), *words], input=input,
                              capture_output=True, text=True, env=environment, timeout=seconds)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def worker_process(self, *words, topic, extra=None):
        environment = dict(self.environment, EVENTFLOW_BACK=self.endpoints["back"], **(extra or {}))
        self.programs.append(subprocess.Popen([os.path.join(self.binaries, "eventflow-worker"), "exec",
                                               "--topic", topic, *words], env=environment))
        return self.programs[-1]


class Worker:
    """A DEALER that says READY and keeps what it gets."""

    def __init__(self, broker, topics, credit=10, **options):
        self.socket = broker.socket(zmq.DEALER, "back")
        self.options = dict(topics=topics, credit=credit, **options)
        self.pending = []
        self.others = []
        self.send(["READY", 1, self.options])
        self.welcome = self.receive("WELCOME")

    def send(self, header, *body):
        self.socket.send_multipart([msgpack.packb(header), *body])

    def receive(self, wanted, seconds=30.0):
        deadline = time.monotonic() + seconds
        while True:
            for i, header in enumerate(self.others):
                if header[0] == wanted:
                    return self.others.pop(i)
            if not self.pump(deadline - time.monotonic()):
                raise AssertionError(f"no {wanted} within {seconds} s, only {self.others}")

    def pump(self, seconds):
        if not self.socket.poll(max(0, int(seconds * 1000))):
            return False
        header, *body = self.socket.recv_multipart()
        header = msgpack.unpackb(header)
        if header[0] == "EVENTS":
            for part in body:
                unpacker = msgpack.Unpacker(strict_map_key=False)
                unpacker.feed(part)
                self.pending.extend(unpacker)
        elif header[0] == "PING":
            self.send(["PONG"])
        else:
            self.others.append(header)
        return True

    def take(self, count, seconds=60.0):
        deadline = time.monotonic() + seconds
        while len(self.pending) < count:
            if not self.pump(deadline - time.monotonic()):
                raise AssertionError(f"{len(self.pending)} of {count} events within {seconds} s")
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def none(self, seconds=0.3):
        self.pump(seconds)
        assert not self.pending, self.pending

    def close(self):
        self.socket.close()


class Publisher:
    """A DEALER that speaks the publishing protocol, by hand."""

    def __init__(self, broker, session=None, heard=0):
        self.socket = broker.socket(zmq.DEALER, "front")
        self.session = session or os.urandom(16)
        self.seq = self.heard = heard
        self.unread = []
        self.greet()

    def greet(self):
        self.send(["HELLO", 1, {"session": self.session, "heard": self.heard}])
        self.welcome = self.receive("WELCOME")

    def send(self, header, *body):
        self.socket.send_multipart([msgpack.packb(header), *body])
        self.spoken = time.monotonic()

    def next(self, wanted, seconds):
        deadline = time.monotonic() + seconds
        while True:
            if not self.socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                raise AssertionError(f"no {wanted} within {seconds} s")
            header = msgpack.unpackb(self.socket.recv_multipart()[0])
            if header[0] != "PING":
                return header
            self.send(["PONG"])

    def receive(self, wanted, seconds=30.0):
        while True:
            header = self.unread.pop(0) if self.unread else self.next(wanted, seconds)
            if header[0] == "CONFIRM":
                self.heard = max(self.heard, header[1] or 0)
            if header[0] == wanted:
                return header

    def revive(self, silent=None):
        """Greets again where it was silent for so long that the broker may have forgotten it."""
        silent = self.welcome[2]["heartbeat"] / 1000 if silent is None else silent
        if time.monotonic() - self.spoken < silent:
            return
        self.send(["PING"])
        while (header := self.next("PONG", 30))[0] != "PONG":
            if header[:2] == ["ERROR", "UNKNOWN_PEER"]:
                return self.greet()
            self.unread.append(header)

    def publish(self, events, seq=None, **options):
        self.revive()
        self.seq = seq if seq is not None else self.seq + 1
        self.send(["PUBLISH", self.seq, options], b"".join(msgpack.packb(e) for e in events))
        return self.seq

    def confirm(self, seconds=30.0):
        return self.receive("CONFIRM", seconds)

    def close(self):
        self.socket.close()


def payloads(path):
    with open(path) as file:
        return [json.loads(line) for line in file if line.strip()]

"""Starting a gateway of one's own, and asking it. SPDX-License-Identifier: MIT"""
import http.client
import json
import os
import re
import signal
import socket
import subprocess

import support


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:600]!r}"


class Gateway:
    """One eventflow-gateway for a broker, on ephemeral ports."""

    def __init__(self, broker, *flags, faces=(), environment=None, listen="127.0.0.1:0"):
        self.broker = broker
        self.log = os.path.join(broker.directory, f"gateway-{id(self)}.log")
        words = [os.path.join(broker.binaries, "eventflow-gateway"), "--listen", listen, "--front",
                 broker.endpoints["front"], "--admin", broker.endpoints["admin"]]
        for face in faces:
            words += [f"--face-{face}", "127.0.0.1:0"]
        environment = dict(broker.environment, **(environment or {}))
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(words + list(flags), stderr=log,
                                            env=environment)
        self.ports = {}
        support.wait_for("the gateway listens", lambda: self.listening(1 + len(faces)))

    def listening(self, count):
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended with {self.process.returncode}: {self.logged()}")
        found = re.findall(r"listening name=(\S+) url=https?://[^\s]*:(\d+)", self.logged())
        self.ports = {name: int(port) for name, port in found}
        return len(self.ports) >= count

    def ready(self):
        support.wait_for("the gateway is ready", lambda: self.get("/health/ready").status == 200)
        return self

    def logged(self):
        with open(self.log) as file:
            return file.read()

    def url(self, path, face="main"):
        return f"http://127.0.0.1:{self.ports[face]}{path}"

    def connect(self, face="main", timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.ports[face], timeout=timeout)

    def ask(self, method, path, body=None, headers=None, face="main", connection=None):
        own = connection or self.connect(face)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            own.request(method, path, body, headers or {})
            answer = own.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            if connection is None:
                own.close()

    def get(self, path, face="main", headers=None):
        return self.ask("GET", path, face=face, headers=headers)

    def post(self, path, body=None, face="main", media="application/json", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, body, {"Content-Type": media, **named}, face)

    def raw(self, data, face="main", seconds=60.0, shut=False):
        """Sends bytes and reads until the other side closes, or nothing more comes."""
        with socket.create_connection(("127.0.0.1", self.ports[face]), timeout=seconds) as sock:
            sock.sendall(data)
            if shut:
                sock.shutdown(socket.SHUT_WR)
            got = b""
            try:
                while True:
                    part = sock.recv(65536)
                    if not part:
                        break
                    got += part
                    if answer_is_whole(got):
                        break
            except ConnectionResetError:
                pass
            return got

    def stop(self, seconds=60):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=seconds)
        assert code == 0, f"the gateway ended with {code}: {self.logged()}"

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the gateway didn't end: {self.logged()}") from None
        if "Sanitizer" in self.logged() or "runtime error" in self.logged():
            raise AssertionError(self.logged())

    def __enter__(self):
        return self.ready()

    def __exit__(self, *_):
        self.close()


def answer_is_whole(data):
    """One answer with a length, whole."""
    head, found, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(found) and length is not None and len(body) >= int(length.group(1))

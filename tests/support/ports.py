"""Ports for servers of the tests. SPDX-License-Identifier: MIT

The system gives connections that go out ports of its own range, so a port of that range that was free
a moment ago, or whose server was killed and comes back, may be somebody's by then. These lie below it,
and all test processes of a machine draw from one sequence: none gets what another got lately."""
import fcntl
import os
import socket
import tempfile

FIRST, LAST = 10000, 32000  # below the system's own range (ip_local_port_range)


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def free_ports(count):
    """Ports that nobody listens on, and that nobody else is given soon."""
    path = os.path.join(tempfile.gettempdir(), f"eventflow-test-ports-{os.getuid()}")
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        port = int(text) if text.isdigit() else FIRST + os.getpid() % (LAST - FIRST)
        ports = []
        for _ in range(LAST - FIRST):
            port = port + 1 if FIRST <= port < LAST else FIRST
            if is_free(port):
                ports.append(port)
            if len(ports) == count:
                break
        assert len(ports) == count, f"{count} ports are wanted and only {len(ports)} are free"
        file.seek(0)
        file.truncate()
        file.write(str(port))
    return ports

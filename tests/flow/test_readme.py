"""README's own programs, run from its text. SPDX-License-Identifier: MIT"""
import os
import re
import subprocess
import sys
import threading

from support import Broker, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Skip(Exception):
    pass


def blocks():
    with open(os.path.join(ROOT, "README.md")) as file:
        text = file.read()
    found = {m[1]: m[2] for m in re.finditer(r"```python\n# readme: (\w+)\n(.*?)```", text, re.S)}
    found.update({m[1]: m[2] for m in re.finditer(r"```(?:sh)?\n# readme: (\w+)\n(.*?)```", text, re.S)})
    found["c"] = re.search(r"```c\n(.*?)```", text, re.S)[1]
    return found


def moved(text, broker):
    """The same program, with the defaults' ports replaced by this broker's."""
    for port, name in enumerate(("ingress", "front", "back"), start=5550):
        text = text.replace(f"tcp://127.0.0.1:{port}", broker.endpoints[name])
    return text


def read_lines(process, count):
    """So many lines of a program's output, within a deadline."""
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(
        process.stdout.readline() for _ in range(count)), daemon=True)
    reader.start()
    reader.join(90)
    assert len(lines) == count, f"{lines} within 90 s, {count} lines were expected"
    return lines


def test_python_programs_work_as_shown(binaries):
    code = blocks()
    with Broker(binaries).start() as broker:
        worker = subprocess.Popen([sys.executable, "-c", moved(code["worker"], broker)],
                                  stdout=subprocess.PIPE, text=True)
        try:
            subprocess.run([sys.executable, "-c", moved(code["push"], broker)], check=True, timeout=90)
            done = subprocess.run([sys.executable, "-c", moved(code["req"], broker)], check=True,
                                  timeout=90, capture_output=True, text=True)
            assert "CONFIRM" in done.stdout and "'accepted': 1" in done.stdout, done.stdout
            lines = sorted(read_lines(worker, 2))
            assert lines == ["mail to a@example.org\n", "mail to b@example.org\n"], lines
            wait_for("both are done", lambda: broker.topic("email")["done"] == 2)
        finally:
            worker.kill()
            worker.wait()
        assert len([line for line in code["worker"].splitlines() if line.strip()]) <= 11


def test_commands_of_delivery_semantics_work_as_shown(binaries):
    shown = blocks()
    with Broker(binaries) as broker:
        sample = os.path.join(broker.directory, "shop.cfg")
        with open(sample, "w") as file:
            file.write(shown["config"])
        with open(broker.config) as file:
            server = file.read().split("topic\n")[0]
        with open(broker.config, "w") as file:
            file.write(server + shown["config"])
        broker.start()
        names = {"EVENTFLOW_" + name.upper(): broker.endpoints[name] for name in ("front", "admin")}
        path = os.path.abspath(binaries) + os.pathsep + os.environ["PATH"]
        done = subprocess.run(["sh", "-e", "-c", shown["commands"]], cwd=broker.directory, timeout=180,
                              env=dict(os.environ, PATH=path, **names), capture_output=True, text=True)
        assert done.returncode == 0, done
        assert "orders#1 is ready: no worker takes from topic orders" in done.stdout, done.stdout
        assert "1 known already" in done.stderr and "later is" not in done.stderr, done.stderr
        assert broker.topic("orders")["accepted"] == 5 and broker.topic("audit")["accepted"] == 1
        assert broker.topic("email")["accepted"] == 2


def test_c_program_works_as_shown(binaries):
    if "asan" in binaries:
        raise Skip("the release build's library is the one that README shows")
    build = os.path.join(os.path.abspath(binaries), "..")
    with Broker(binaries).start() as broker:
        source = os.path.join(broker.directory, "sample.c")
        program = os.path.join(broker.directory, "sample")
        with open(source, "w") as file:
            file.write(blocks()["c"])
        subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-o", program, source,
                        "-I", os.path.join(ROOT, "clients", "c"),
                        os.path.join(build, "clients", "libeventflow.a"), "-lzmq", "-lm",
                        "-lpthread"],
                       check=True)
        environment = dict(os.environ, EVENTFLOW_FRONT=broker.endpoints["front"],
                           EVENTFLOW_BACK=broker.endpoints["back"])
        running = subprocess.Popen([program], env=environment)
        try:
            wait_for("it is done", lambda: broker.topic("email")["done"] == 1)
        finally:
            running.kill()
            running.wait()


def test_installed_library_is_found_by_pkg_config(binaries):
    if "asan" in binaries:
        raise Skip("the release build's library is the one that README shows")
    build = os.path.join(os.path.abspath(binaries), "..")
    with Broker(binaries) as broker:
        prefix = os.path.join(broker.directory, "prefix")
        subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True,
                       capture_output=True)
        found = [os.path.join(path, "eventflow.pc") for path, _, files in os.walk(prefix)
                 if "eventflow.pc" in files]
        assert len(found) == 1
        with open(found[0]) as file:
            text = re.sub(r"^prefix=.*", f"prefix={prefix}", file.read(), flags=re.M)
        with open(found[0], "w") as file:
            file.write(text)
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "eventflow"], check=True,
                               capture_output=True, text=True,
                               env=dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(found[0])))
        source = os.path.join(broker.directory, "sample.c")
        with open(source, "w") as file:
            file.write(blocks()["c"])
        subprocess.run(["gcc", source, "-o", os.path.join(broker.directory, "sample"),
                        *flags.stdout.split()], check=True)
        assert os.path.exists(os.path.join(prefix, "bin", "eventflowd"))

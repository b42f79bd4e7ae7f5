"""eventflow bench: every part runs, and what goes wrong ends it. SPDX-License-Identifier: MIT"""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from support import wait_for

def counts(binaries):
    """Sanitizers make everything slower; what is tested is that all parts run."""
    return ("20000", "5000") if "asan" in binaries else ("200000", "50000")


def bench(binaries, *words, environment=None):
    return subprocess.Popen([os.path.join(binaries, "eventflow"), "bench", *words],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=dict(os.environ, **(environment or {})))


def children(process):
    """(role, pid) of a bench's children, from its command lines."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{pid}/cmdline") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        if parent == process.pid:
            role = words[words.index("--role") + 1] if "--role" in words else words[0]
            found.append((role, int(pid)))
    return found


def child(process, role):
    return wait_for(f"there is a {role}", lambda: dict(children(process)).get(role))


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_backlog_is_measured_in_all_parts(binaries):
    events, single = counts(binaries)
    start = time.monotonic()
    process = bench(binaries, "--backlog", "--events", events, "--single", single, "--json")
    out, errors = process.communicate(timeout=300)
    seconds = time.monotonic() - start
    assert process.returncode == 0, errors
    result = json.loads(out)
    assert result["events"] == int(events) and result["single_events"] == int(single)
    for name in ("idle_rss_bytes", "publish_events_per_second", "waiting_rss_bytes", "journal_bytes",
                 "clean_restart_ms", "kill_restart_ms", "log_restart_ms", "log_restart_mb_per_second",
                 "drain_events_per_second", "drain_peak_rss_bytes", "quiet_segment_bytes",
                 "single_drain_events_per_second", "checkpoint_bytes"):
        assert result[name] > 0, (name, result)
    assert result["quiet_live_bytes"] == 0, result
    assert set(result["targets"]) == {"waiting_rss", "kill_restart", "clean_restart", "log_restart",
                                      "drain", "quiet_disk", "single_rss"}
    assert "asan" in binaries or seconds < 60, seconds


def test_both_directions_are_measured(binaries):
    process = bench(binaries, "--events", counts(binaries)[0], "--runs", "1", "--json")
    out, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    assert json.loads(out)["events_per_second"] > 0


def test_order_of_keys_is_held(binaries):
    process = bench(binaries, "--events", counts(binaries)[0], "--runs", "1", "--keys", "100",
                    "--json")
    out, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    result = json.loads(out)
    assert result["events_per_second"] > 0 and result["keys"] == 100, result


def test_costs_of_dedupe_and_keys_are_compared(binaries):
    process = bench(binaries, "--compare", "--events", counts(binaries)[1], "--runs", "1", "--json")
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    result = json.loads(out)
    kinds = {"default", "keys_1000", "keys_1000000"}
    assert set(result["events_per_second"]) == kinds | {"dedupe_off"}, result
    assert set(result["ratios"]) == kinds and set(result["targets"]) == kinds, result
    assert all(rate > 0 for rate in result["events_per_second"].values()), result


def kills(pid):
    """False: it had ended already; the next run starts another."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_a_dead_child_ends_the_bench(binaries):
    for role in ("eventflowd", "worker", "publisher", "raw-pull", "raw-push"):
        events = "100000000" if "raw" not in role else "1000" if "asan" in binaries else "1000000"
        process = bench(binaries, "--events", events, "--runs", "60")
        try:
            child(process, "publisher")
            wait_for(f"a {role} is killed", lambda: kills(child(process, role)))
            others = [each for _, each in children(process)]
            start = time.monotonic()
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 1, (role, errors)
            assert time.monotonic() - start < 20  # the rest would take minutes
            assert "ended by signal 9" in errors, (role, errors)
            wait_for("no child is left", lambda: all(map(is_gone, others)))
        finally:
            process.kill()


def test_a_stopped_bench_leaves_nothing_behind(binaries):
    directory = tempfile.mkdtemp(prefix="ef-test-")
    started = []
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = bench(binaries, "--backlog", environment={"TMPDIR": directory})
            started.append(process)
            child(process, "publisher")
            others = [pid for _, pid in children(process)]
            assert len(others) == 2
            process.send_signal(number)
            process.communicate(timeout=60)
            assert process.returncode == (1 if number == signal.SIGTERM else -9)
            wait_for("no child is left", lambda: all(map(is_gone, others)))
            assert number == signal.SIGKILL or os.listdir(directory) == []
    finally:
        for process in started:
            process.kill()
        shutil.rmtree(directory, ignore_errors=True)


def test_no_broker_is_said_at_once(binaries):
    process = bench(binaries, "--backlog", environment={"TMPDIR": "/nowhere"})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "can't make a directory in /nowhere" in errors, errors

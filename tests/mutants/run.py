"""Tests the tests: breaks the broker on purpose and sees whether they notice.
SPDX-License-Identifier: MIT

usage: run.py [--only NAME] [--jobs N]

Each *.patch beside this file is one mutant; its first line says what is broken. The sources are
copied to a temporary directory and built there once, unchanged. For every mutant that copy is
taken anew, at the same path, so that only what the patch changed is built again; then the ordinary
suite's parts run, the fast ones first, until one fails. A mutant that none of them notices has
survived: a test is missing. A patch that doesn't apply or doesn't compile is to be renewed."""
import argparse
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PYTHON = "/usr/bin/python3"
BUILD = "build/release"
# What is run, with the seconds it may take; as in tools/test, without what knows only the sources.
PARTS = [
    ("unit", 120, ["ctest", "--test-dir", BUILD, "--output-on-failure", "--stop-on-failure",
                   "-LE", "sim", "-j2"]),
    ("sim", 180, [f"{BUILD}/tests/sim", "--seeds", "500", "--operations", "1000",
                  "--crashes", "2"]),
    ("cuts", 120, ["ctest", "--test-dir", BUILD, "--output-on-failure", "--stop-on-failure",
                   "-R", "^cuts_", "-j2"]),
    ("flow", 600, [PYTHON, "tests/flow/run.py", f"{BUILD}/bin"]),
    ("fault", 900, [PYTHON, "tests/fault/run.py", f"{BUILD}/bin"]),
]
SIGN = re.compile(r"(\[  FAILED  \]|^seed \d+, ms|^aborted at seed|assertion|^FAILED ).*")


class Stale(Exception):
    """The patch no longer fits the sources."""


def run(command, tree):
    return subprocess.run(command, cwd=tree, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)


def copy_sources(tree):
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True,
                           capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        source, target = os.path.join(ROOT, name), os.path.join(tree, name)
        if os.path.exists(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(source, target)


def build(tree, jobs):
    result = run(["cmake", "--build", "--preset", "release", "-j", str(jobs)], tree)
    if result.returncode:
        raise Stale("it doesn't compile:\n" + result.stdout[-3000:])


def fill(place, tree, jobs):
    """The sources as they are, built; kept in `place` for every mutant."""
    copy_sources(tree)
    result = run(["cmake", "--preset", "release"], tree)
    if result.returncode:
        raise Stale("the unchanged tree isn't configured:\n" + result.stdout[-3000:])
    build(tree, jobs)
    shutil.copytree(tree, place, symlinks=True)


def end(process):
    """Ends a part and what it started. Interrupted, the scripts stop their brokers themselves."""
    for number, seconds in ((signal.SIGINT, 20), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is None:
            try:
                process.send_signal(number)
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                continue
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its group bears its number
    except ProcessLookupError:
        pass


def sign_of(line):
    """What a line says of a failure, in short; "": nothing."""
    found = SIGN.search(line)
    return found.group(0).strip()[:110] if found else ""


def fails_again(name, line, command, tree):
    """False: a flow test that fails now and then, whatever is broken; it says nothing."""
    if name != "flow":
        return True
    test = line.split()[1].rpartition(".")[2]
    try:
        result = subprocess.run(command + [test], cwd=tree, timeout=120, check=False,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return True
    if result.returncode == 0:
        print(f"  {test} failed once and passed once: it isn't counted", flush=True)
    return result.returncode != 0


def notices(name, seconds, command, tree):
    """Runs one part. What was noticed first, or "" where all of it passed."""
    process = subprocess.Popen(command, cwd=tree, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True, errors="replace")
    is_late = threading.Event()

    def stop():
        is_late.set()
        end(process)

    timer = threading.Timer(seconds, stop)
    timer.start()
    names_tests = name in ("flow", "fault")
    first, is_noticed, has_failed = "", False, False
    try:
        for line in process.stdout:
            if not names_tests:
                first = first or sign_of(line)
            elif line.startswith("FAILED "):
                has_failed = True
                is_noticed = fails_again(name, line, command, tree)
                if is_noticed:
                    first = sign_of(line)
                    break  # the rest of it needn't be waited for
        else:
            process.wait()
            if names_tests and process.returncode and not has_failed and not is_late.is_set():
                raise SystemExit(f"{name} ended with {process.returncode} and named no test")
            is_noticed = process.returncode != 0 and not names_tests
    finally:
        timer.cancel()
        end(process)
        process.stdout.close()
    if is_late.is_set() and not is_noticed:
        return first or f"it isn't over after {seconds} s"
    return (first or f"status {process.returncode}") if is_noticed else ""


def judge(patch, place, tree, jobs):
    """Which part notices the mutant, and what it says; ("", "") where it survives."""
    shutil.rmtree(tree)
    shutil.copytree(place, tree, symlinks=True)
    result = run(["patch", "--strip=1", "--fuzz=0", "--input", patch], tree)
    if result.returncode:
        raise Stale("it doesn't apply:\n" + result.stdout)
    build(tree, jobs)
    for name, seconds, command in PARTS:
        text = notices(name, seconds, command, tree)
        if text:
            return name, text
    return "", ""


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0])
    parser.add_argument("--only")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    patches = sorted(glob.glob(os.path.join(HERE, "*.patch")))
    patches = [p for p in patches if options.only in (None, os.path.basename(p)[:-6])]
    caught = survived = stale = 0
    base = tempfile.mkdtemp(prefix="ef-mutants-")
    place, tree = os.path.join(base, "unchanged"), os.path.join(base, "tree")
    try:
        os.mkdir(tree)
        fill(place, tree, options.jobs)
        for patch in patches:
            name, start = os.path.basename(patch)[:-6], time.monotonic()
            try:
                part, text = judge(patch, place, tree, options.jobs)
            except Stale as error:
                stale += 1
                print(f"{name}: the patch is to be renewed: {error}", flush=True)
                continue
            caught, survived = caught + bool(part), survived + (not part)
            verdict = f"caught by {part}: {text}" if part else "SURVIVED"
            print(f"{name}: {verdict} ({time.monotonic() - start:.0f} s)", flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if stale or not patches:
        print(f"mutants: {stale} patches to be renewed" if stale else "mutants: there is none")
    print(f"mutants: {caught} caught, {survived} survived")
    return 1 if survived or stale or not patches else 0


if __name__ == "__main__":
    sys.exit(main())

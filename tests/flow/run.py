"""Runs every test_* function of the flow tests against real processes. SPDX-License-Identifier: MIT

usage: run.py BINARIES [--jobs N] [TEST or MODULE...]

With --jobs several modules run at a time, each in a process of its own: most of their time they wait. Those
that measure what a machine gives come last, one by one."""
import concurrent.futures
import importlib
import os
import re
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
MODULES = sorted(name[:-3] for name in os.listdir(HERE)
                 if name.startswith("test_") and name.endswith(".py"))
FIRST = ["test_scaler"]  # the longest
ALONE = ["test_api_rate", "test_bench", "test_email_rate", "test_programs"]


class Skip(Exception):
    pass


def run_here(binaries, names):
    passed = failed = skipped = 0
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in sorted(n for n in dir(module) if n.startswith("test_")):
            if names and name not in names and module_name not in names:
                continue
            start = time.monotonic()
            try:
                getattr(module, name)(binaries)
                passed += 1
                print(f"ok {module_name}.{name} {time.monotonic() - start:.1f} s", flush=True)
            except Exception as error:  # one test's end is no other's
                if type(error).__name__ == "Skip":
                    skipped += 1
                    print(f"skipped {module_name}.{name}: {error}", flush=True)
                    continue
                failed += 1
                print(f"FAILED {module_name}.{name}", flush=True)
                traceback.print_exc()
    return passed, failed, skipped


def run_module(binaries, module):
    """The counts of a module that runs in a process of its own; what it says comes in one piece."""
    done = subprocess.run([sys.executable, os.path.abspath(__file__), binaries, module], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = done.stdout.splitlines()
    counts = re.fullmatch(r"flow: (\d+) passed, (\d+) failed, (\d+) skipped", lines[-1] if lines else "")
    print("\n".join(lines[:-1] if counts else lines), flush=True)
    return tuple(map(int, counts.groups())) if counts else (0, 1, 0)


def run_apart(binaries, modules, jobs):
    others = [m for m in FIRST if m in modules]
    others += [m for m in modules if m not in FIRST + ALONE]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        counts = list(pool.map(lambda module: run_module(binaries, module), others))
    counts += [run_module(binaries, module) for module in ALONE if module in modules]
    return tuple(map(sum, zip(*counts)))


def main():
    words = sys.argv[1:]
    jobs = 1
    if "--jobs" in words:
        at = words.index("--jobs")
        jobs = int(words[at + 1])
        del words[at:at + 2]
    binaries, names = words[0], words[1:]
    if "asan" in binaries:  # libzmq 4.3.4 leaves a few hundred bytes of a closing connection behind
        os.environ["LSAN_OPTIONS"] = "suppressions=" + os.path.join(HERE, "lsan.supp")
    if jobs > 1 and all(name in MODULES for name in names):
        passed, failed, skipped = run_apart(binaries, names or MODULES, jobs)
    else:
        passed, failed, skipped = run_here(binaries, names)
    print(f"flow: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

"""A PostgreSQL of one's own: a fresh cluster on an ephemeral port, ended with its directory.
SPDX-License-Identifier: MIT"""
import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time

from ports import free_ports


def binaries():
    """The newest server's directory, or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"),
                   key=lambda path: int(re.search(r"/(\d+)/", path).group(1)))
    return os.path.dirname(found[-1]) if found else None


class Session:
    """A psql that is spoken to line by line, so that a transaction can stay open."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, env=environment)

    def send(self, sql):
        self.process.stdin.write(sql + ";\n")
        self.process.stdin.flush()

    def run(self, sql):
        """Waits until it is done; what it said."""
        self.send(sql)
        self.process.stdin.write("\\echo end-of-answer\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.strip() == "end-of-answer":
                return "".join(lines)
            lines.append(line)
        raise AssertionError("psql ended: " + "".join(lines))

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Postgres:
    """One server; psql speaks to it by its unix socket, workers by TCP or by either."""

    def __init__(self, settings=""):
        self.binaries = binaries()
        assert self.binaries, "no PostgreSQL server is installed"
        self.directory = tempfile.mkdtemp(prefix="ef-pg-")
        self.data = os.path.join(self.directory, "data")
        self.log = os.path.join(self.directory, "log")
        self.process = None
        # Root may not run a server: it is the user that the packages make for it.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.directory, self.user)
        self._run([os.path.join(self.binaries, "initdb"), "-D", self.data, "-U", "test", "-A", "trust",
                   "-E", "UTF8", "--locale=C", "--no-sync"])
        [self.port] = free_ports(1)
        with open(os.path.join(self.data, "postgresql.conf"), "a") as file:
            file.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n"
                       f"unix_socket_directories = '{self.directory}'\n{settings}\n")

    def _words(self, command):
        """As that user, and at its end when we are ended by force: nobody leaves a server behind."""
        words = ["setpriv", "--pdeathsig=QUIT"]
        if self.user:
            account = pwd.getpwnam(self.user)
            words += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return [*words, *command]

    def _run(self, command):
        done = subprocess.run(self._words(command), capture_output=True, text=True, timeout=120,
                              cwd=self.directory)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def launch(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                self._words([os.path.join(self.binaries, "postgres"), "-D", self.data]), stdout=log,
                stderr=log, cwd=self.directory, start_new_session=True)

    def start(self):
        """Until it answers. What an earlier one left behind may take a moment to go."""
        deadline = time.monotonic() + 60
        self.launch()
        while self.try_sql("SELECT 1") is None:
            assert time.monotonic() < deadline, "PostgreSQL doesn't start:\n" + self.logged()
            try:
                self.process.wait(0.05)
                self.launch()  # it has ended
            except subprocess.TimeoutExpired:
                pass
        return self

    def logged(self):
        with open(self.log) as file:
            return file.read()

    def kill(self):
        """All its processes at once, as a machine that lost its power."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, how=signal.SIGINT):
        """SIGINT: fast, sessions are ended; SIGTERM: waits for them; SIGQUIT: at once."""
        self.process.send_signal(how)
        self.process.wait(timeout=60)

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def url(self, database="postgres", user="test"):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def psql(self, database="postgres"):
        return ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=0", "-h", self.directory, "-p",
                str(self.port), "-U", "test", "-d", database]

    def environment(self):
        return dict(os.environ, PGCONNECT_TIMEOUT="10")

    def try_sql(self, sql, database="postgres"):
        """What it says, or None."""
        done = subprocess.run([*self.psql(database), "-v", "ON_ERROR_STOP=1", "-c", sql],
                              capture_output=True, text=True, timeout=60, env=self.environment())
        return done.stdout.strip() if done.returncode == 0 else None

    def sql(self, sql, database="postgres"):
        done = subprocess.run([*self.psql(database), "-v", "ON_ERROR_STOP=1", "-c", sql],
                              capture_output=True, text=True, timeout=60, env=self.environment())
        assert done.returncode == 0, (sql, done.stderr)
        return done.stdout.strip()

    def rows(self, sql, database="postgres"):
        """Lines of fields."""
        text = self.sql(sql, database)
        return [tuple(line.split("|")) for line in text.splitlines()]

    def create(self, database):
        """A fresh database; its url."""
        self.sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        self.sql(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def session(self, database="postgres"):
        return Session(self.psql(database), self.environment())

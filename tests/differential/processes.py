"""Starts processes on loopback, and ends the ones that it started."""
import os
import pathlib
import signal
import socket
import subprocess
import time

import wire


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((wire.HOST, 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Processes:
    def __init__(self, work):
        self.work, self.started = pathlib.Path(work), []

    def start(self, name, command, **environment):
        log = open(self.work / f"{name}.log", "wb")
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.work,
            env={**os.environ, **environment}, start_new_session=True)
        self.started.append((name, process))
        return process

    def end(self):
        """Each process has a group of its own: Apache ends its group, and some servers do not end their children."""
        for _, process in self.started:
            self._signal(process, signal.SIGTERM)
        for _, process in self.started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                pass
            self._signal(process, signal.SIGKILL)
            process.wait()

    @staticmethod
    def _signal(process, which):
        try:
            os.killpg(process.pid, which)
        except ProcessLookupError:
            pass

    def await_port(self, port, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, process in self.started:
                if process.poll() is not None:
                    raise SystemExit(f"{name} ended:\n{self.log(name)[-2000:]}")
            try:
                return socket.create_connection((wire.HOST, port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"nothing listens on port {port}; the logs: {self.work}")

    def log(self, name):
        return (self.work / f"{name}.log").read_text(errors="replace")

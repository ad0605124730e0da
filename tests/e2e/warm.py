"""Kernels that start with steerlab imported, each a fork of one process that has it.

The imports take a kernel five seconds of a core, and only a few tests are about them; those use the kernel `python3`.

    python warm.py fork SOCKET                  the process that has imported all, and forks
    python warm.py kernel SOCKET CONNECTION     what the Jupyter server starts and sees as the kernel: it stands for a
                                                fork, hands signals on to it, and ends with it
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

PATIENCE = 120.0  # seconds in which the imports are made on a busy machine


def fork_kernels(address: str) -> NoReturn:
    """Import everything, then fork a kernel for whoever asks at this address."""
    del sys.path[0]  # the folder of this file, which a kernel does not see
    import ipykernel.kernelapp
    import transformers

    from steerlab import lab
    from steerlab.ui import panel

    assert lab, panel
    assert (
        transformers.PreTrainedModel
    )  # modules of transformers are imported when something of them is asked for
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        while True:
            line, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _become_kernel(line)
                ipykernel.kernelapp.launch_new_instance()
                os._exit(0)
            line.close()


def _become_kernel(line: socket.socket) -> None:
    """Take over from the process at the other end of the line: its streams, folder, environment and fate."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, *_ = socket.recv_fds(line, 8, 3)
    asked = json.loads(line.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["ipykernel_launcher", "-f", asked["connection"]]

    def follow() -> None:
        while number := line.recv(1):
            os.kill(os.getpid(), number[0])
        os._exit(1)  # it was killed

    threading.Thread(target=follow, daemon=True).start()


def stand_for_kernel(address: str, connection: str) -> None:
    """Be the process of a kernel that was forked elsewhere."""
    line = _connected(address)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: line.sendall(bytes([number])))
    asked = {"connection": connection, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    message = json.dumps(asked).encode()
    socket.send_fds(line, [len(message).to_bytes(8, "big")], [0, 1, 2])
    line.sendall(message)
    line.recv(1)  # nothing is ever said: it ends when the kernel does


def _connected(address: str) -> socket.socket:
    end = time.monotonic() + PATIENCE
    while True:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            line.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return line


if __name__ == "__main__":
    {"fork": fork_kernels, "kernel": stand_for_kernel}[sys.argv[1]](*sys.argv[2:])

"""Ports without a server, or with one that accepts connections and never answers."""

import socket
from contextlib import contextmanager

from peculiar.predict import server


def free_port():
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        return taken.getsockname()[1]


@contextmanager
def silent_server():
    """Port of a socket that the kernel accepts connections for, and nobody reads."""
    with socket.socket() as listening:
        listening.bind((server.HOST, 0))
        listening.listen(50)
        yield listening.getsockname()[1]

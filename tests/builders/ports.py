"""A port without a server."""

import socket

from peculiar.predict import server


def free_port():
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        return taken.getsockname()[1]

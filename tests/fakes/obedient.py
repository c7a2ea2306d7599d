"""The obedient runtime in a process that was not forked: `python -m tests.fakes.obedient FD`."""

import socket
import sys

from tests.fakes.runtime import serve

if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))

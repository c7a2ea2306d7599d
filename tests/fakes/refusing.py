"""A fork server that refuses to fork, as the real one does once a library has touched CUDA."""

import json
import socket
import sys

if __name__ == "__main__":
    control = socket.socket(fileno=int(sys.argv[1]))
    while packet := control.recv(65536):
        call = json.loads(packet)["id"]
        control.send(json.dumps({"op": "refused", "id": call, "reason": "CUDA is in use"}).encode())

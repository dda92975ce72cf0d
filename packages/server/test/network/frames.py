"""Raw frames: `send DEVICE HEX…` puts them on the wire, `see DEVICE` prints each that comes or goes, in hex."""
import socket
import sys

mode, device, *frames = sys.argv[1:]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((device, 0))
if mode == "send":
    for frame in frames:
        wire.send(bytes.fromhex(frame))
else:
    print("seeing", flush=True)
    while True:
        print(wire.recv(65536).hex(), flush=True)

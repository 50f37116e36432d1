"""
A BGP router that sends what it should not: one million routes, and routes that cover the underlay. Waits for the connection
of one host at port 179 of an address, and prints "sent" when everything is sent.

    python3 bgp-speaker.py ADDRESS AS
"""
import ipaddress
import socket
import struct
import sys

address, asn = sys.argv[1], int(sys.argv[2])
marker = b'\xff' * 16


def message(kind, body=b''):
    return marker + struct.pack('!HB', 19 + len(body), kind) + body


def attribute(flags, code, value):
    return struct.pack('!BBH', flags | 0x10, code, len(value)) + value


def update(prefixes):
    """RFC 4271, 4.3 with MP_REACH_NLRI (RFC 4760, 3)."""
    nlri = b''.join(bytes([length]) + network.to_bytes(16, 'big')[: (length + 7) // 8] for network, length in prefixes)
    hop = ipaddress.IPv6Address(address).packed
    reach = struct.pack('!HBB', 2, 1, len(hop)) + hop + b'\0' + nlri
    attributes = (
        attribute(0x40, 1, b'\0')
        + attribute(0x40, 2, struct.pack('!BBI', 2, 1, asn))
        + attribute(0x80, 14, reach)
    )
    return message(2, struct.pack('!HH', 0, len(attributes)) + attributes)


listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((address, 179))
listener.listen(1)
peer, _ = listener.accept()
received = b''


def read(wanted):
    global received
    while True:
        while len(received) >= 19:
            (length, kind) = struct.unpack('!HB', received[16:19])
            if len(received) < length:
                break
            received = received[length:]
            if kind == wanted:
                return
        received += peer.recv(65536)


capabilities = struct.pack('!BBHBB', 1, 4, 2, 0, 1) + struct.pack('!BBI', 65, 4, asn)
options = struct.pack('!BB', 2, len(capabilities)) + capabilities
opening = struct.pack('!BHH4sB', 4, 23456, 0, bytes([192, 0, 2, 9]), len(options)) + options
read(1)
peer.sendall(message(1, opening) + message(4))
read(4)
whole = int(ipaddress.IPv6Address(address))
# The default route, the space of the underlay, its /64, and the address of the host itself.
covering = [(0, 0), (whole >> 112 << 112, 16), (whole >> 64 << 64, 64), ((whole >> 64 << 64) | 2, 128)]
peer.sendall(update(covering))
batch = 200
for start in range(0, 1_000_000, batch):
    peer.sendall(update([((0x2001 << 112) | (start + i) << 64, 64) for i in range(batch)]))
print('sent', flush=True)
try:
    while peer.recv(65536):
        peer.sendall(message(4))
except ConnectionError:
    pass  # The host has ended.

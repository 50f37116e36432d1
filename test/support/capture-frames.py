"""Counts the frames that guests send, by kind, from the creation of their taps on. Prints JSON lines."""
import collections, json, socket, struct, sys

counts = collections.Counter()


def kind(frame):
    (protocol,) = struct.unpack('!H', frame[12:14])
    if protocol in (0x0800, 0x0806):
        return 'IPv4'
    if protocol != 0x86DD or len(frame) < 58:
        return 'other'
    if frame[20] == 17 and struct.unpack('!H', frame[56:58])[0] == 547:
        return 'DHCPv6'
    return 'IPv6'


# ETH_P_ALL. The kernel passes frames here before any filter of the host sees them.
packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
print('ready', flush=True)
while True:
    frame, (device, _protocol, direction, _type, source) = packets.recvfrom(2048)
    # PACKET_OUTGOING: the host sends. MAC addresses that ucloud computes begin with 42.
    if direction == 4 or source[0] != 0x42 or not device.startswith(sys.argv[1]) or len(frame) < 14:
        continue
    name = kind(frame)
    counts[name] += 1
    if counts[name] == 1 or sum(counts.values()) % 50 == 0:
        print(json.dumps(counts), flush=True)

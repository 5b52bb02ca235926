"""Sends bytes through an echo server and reads them back at the same time; then closes its half and reads to the end.

usage: duplex.py HOST PORT MEBIBYTES CONNECTIONS
Prints one line: connections that were open at the same time, bytes, and whether everything came back unchanged.
"""
import hashlib
import os
import socket
import sys
import threading

host, port, mebibytes, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
sockets = [socket.create_connection((host, port), timeout=60) for _ in range(count)]
results = []


def talk(connection):
    sent, got, total = hashlib.sha256(), hashlib.sha256(), 0
    block = bytearray(os.urandom(1 << 20) if mebibytes else os.urandom(1000))

    def send():
        for number in range(max(mebibytes, 1)):
            block[:8] = number.to_bytes(8, "big")
            sent.update(block)
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    while data := connection.recv(1 << 18):
        got.update(data)
        total += len(data)
    sender.join()
    results.append((total, sent.digest() == got.digest()))


threads = [threading.Thread(target=talk, args=(connection,)) for connection in sockets]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(sockets), sum(total for total, _ in results), all(same for _, same in results))

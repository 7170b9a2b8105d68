"""A name server for tests, with bad manners: `python nameserver.py ADDRESS LOG`. Every query is a line in the log.

NAME.test       10.9.8.7, for 30 seconds
big.test        TXT of 3,000 bytes: over UDP only that it does not fit
slow.test       after 1.5 seconds
silent.test     never
refused.test    REFUSED, failing.test SERVFAIL
edns.test       TXT: the size that the query offers, or "none"
anything else   no such name
"""

import socket
import sys
import threading
import time
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

_CODES = {"refused.test.": dns.rcode.REFUSED, "failing.test.": dns.rcode.SERVFAIL}


def respond(data: bytes, *, tcp: bool, log: Path) -> bytes | None:
    query = dns.message.from_wire(data)
    name = query.question[0].name.to_text().lower()
    with log.open("a") as file:
        file.write(f"{'tcp' if tcp else 'udp'} {name}\n")
    answer = dns.message.make_response(query)
    kind = dns.rdatatype.to_text(query.question[0].rdtype)
    answer.flags |= dns.flags.RA

    def add(kind: str, *values: str) -> None:
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 30, "IN", kind, *values))

    if name == "silent.test.":
        return None
    if name in _CODES:
        answer.set_rcode(_CODES[name])
    elif not name.endswith("test."):
        answer.set_rcode(dns.rcode.NXDOMAIN)
        answer.authority.append(dns.rrset.from_text(".", 60, "IN", "SOA", "a. b. 1 2 3 4 60"))
    elif name == "big.test.":
        if tcp:
            add("TXT", *(f'"{chr(97 + each) * 250}"' for each in range(12)))
        else:
            answer.flags |= dns.flags.TC
    elif name == "edns.test.":
        add("TXT", f'"{query.payload if query.edns >= 0 else "none"}"')
    elif kind == "A":
        if name == "slow.test.":
            time.sleep(1.5)
        add("A", "10.9.8.7")
    return answer.to_wire()


def serve_tcp(listener: socket.socket, log: Path) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            size = connection.recv(2)
            if len(size) == 2 and (answer := respond(connection.recv(65535), tcp=True, log=log)):
                connection.sendall(len(answer).to_bytes(2, "big") + answer)


def main(address: str, log: Path) -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 53))
    tcp = socket.create_server((address, 53))
    threading.Thread(target=serve_tcp, args=(tcp, log), daemon=True).start()
    print("ready", flush=True)

    def one(data: bytes, client: tuple[str, int]) -> None:
        if answer := respond(data, tcp=False, log=log):
            udp.sendto(answer, client)

    while True:
        threading.Thread(target=one, args=udp.recvfrom(65535), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

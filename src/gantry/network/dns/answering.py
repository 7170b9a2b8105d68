"""From a query to its answer: our own names at once, everything else from the servers behind us, or not at all."""

import time
from collections.abc import Callable

from gantry.network.dns import messages
from gantry.network.dns.cache import Cache
from gantry.network.dns.forward import Exchange, Health
from gantry.network.dns.hostfile import HostServers
from gantry.network.dns.loop import Loop
from gantry.network.dns.messages import Query
from gantry.network.dns.sandbox import MAX_EXCHANGES, Sandbox, shared_scope
from gantry.network.dns.zone import Zone

_ANSWERS = 1024  # that are kept for one container
_ROTATIONS = 16  # of the same addresses

Reply = Callable[[bytes], None]


class Answering:
    """`zone` is who is called what; it may be replaced, and `changed` is called after every change."""

    def __init__(self, loop: Loop, host: HostServers) -> None:
        self.zone = Zone()
        self._host = host
        self._loop = loop
        self._cache = Cache()
        self._health = Health()

    def forget(self, box: Sandbox) -> None:
        """A container is gone."""
        if box.scope == box.key:
            self._cache.forget(box.scope)

    def ask(self, box: Sandbox, data: bytes, reply: Reply, *, tcp: bool) -> None:
        """Answer one message; `reply` is called once, now or later, or never where it deserves no answer."""
        try:
            query = messages.parse_query(data)
        except messages.Malformed:
            return
        if isinstance(query, int):
            reply(messages.refusal(data, query))
            return
        limit = messages.MAX_MESSAGE if tcp else query.size
        if (own := self._own(box, query, limit)) is not None:
            if not tcp:
                if len(box.answers) >= _ANSWERS:
                    box.answers.clear()
                box.answers[data[2:]] = own[0][2:] if len(own) == 1 else [each[2:] for each in own]
            box.turn += 1
            reply(own[box.turn % len(own)])
        elif not box.forward or not box.servers or query.edns > 0:
            reply(messages.reply(query, code=messages.SERVFAIL, limit=limit, recursion=False))
        else:
            self._forward(box, query, reply, tcp=tcp)

    # ---------------------------------------------------------------------------------------- our own names

    def _own(self, box: Sandbox, query: Query, limit: int) -> list[bytes] | None:
        """The answers for what is ours to know, equal but for the order of addresses; None for other names."""
        if query.kind != messages.IN or not query.name:
            return None
        if query.type == messages.PTR:
            return self._reverse(box, query, limit)
        ipv6 = query.type == messages.AAAA
        addresses = self.zone.resolve(box.key, query.name, ipv6=ipv6)
        address = ipv6 or query.type == messages.A
        if addresses is None:
            # With an `ndots` of the user's, a single word is for the search list alone, as with Docker.
            bare = box.ndots and address and b"." not in query.name
            return [messages.reply(query, limit=limit)] if bare else None
        if not address:
            return [messages.reply(query, limit=limit)]
        records = messages.address_records(query.type, addresses)
        step = max(1, len(records) // _ROTATIONS)
        turns = range(0, max(1, len(records)), step)
        return [messages.reply(query, records[each:] + records[:each], limit=limit) for each in turns]

    def _reverse(self, box: Sandbox, query: Query, limit: int) -> list[bytes] | None:
        address = messages.reversed_address(query.name)
        name = None if address is None else self.zone.reverse(box.key, address)
        if name is None:
            return None
        if not name:
            return [messages.reply(query, code=messages.NXDOMAIN, limit=limit)]
        return [messages.reply(query, [messages.pointer_record(name)], limit=limit)]

    # ------------------------------------------------------------------------------------------ other names

    def _forward(self, box: Sandbox, query: Query, reply: Reply, *, tcp: bool) -> None:
        servers, scope = box.servers, box.scope
        if box.follows and (now := self._host.current()):
            servers, scope = now, shared_scope(now)
        if (kept := self._cache.get(scope, query.data, time.monotonic())) is not None:
            reply(_fitting(bytes(kept), query, tcp=tcp))
            return
        if len(box.exchanges) >= MAX_EXCHANGES:
            reply(messages.reply(query, code=messages.SERVFAIL, limit=query.size))
            return

        def done(answer: bytes | None) -> None:
            box.exchanges.discard(exchange)
            if answer is None:
                reply(messages.reply(query, code=messages.SERVFAIL, limit=query.size))
                return
            self._cache.put(scope, query.data, query.end, answer, time.monotonic())
            reply(_fitting(answer, query, tcp=tcp))

        exchange = Exchange(self._loop, self._health, scope, servers, query, box.open, done, tcp=tcp)
        box.exchanges.add(exchange)
        exchange.start()


def _fitting(answer: bytes, query: Query, *, tcp: bool) -> bytes:
    return answer if tcp or len(answer) <= query.size else messages.truncated(answer, query)

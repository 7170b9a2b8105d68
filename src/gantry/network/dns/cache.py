"""Answers of other servers, kept for as long as they allow, at most a minute. Bounded in number and size."""

from gantry.network.dns import messages

_ENTRIES = 512
_LARGEST = 4096  # bytes of one answer
_LONGEST = 60  # seconds: who changes a name does not wait for us


class Cache:
    """By scope (whose servers were asked) and the exact bytes of the query behind its number."""

    def __init__(self, entries: int = _ENTRIES) -> None:
        self._limit = entries
        self._kept: dict[tuple[str, bytes], tuple[float, float, bytes, list[int]]] = {}

    def get(self, scope: str, query: bytes, now: float) -> bytearray | None:
        """The answer, with its times to live counted down and the number of this query."""
        key = (scope, query[2:])
        if (entry := self._kept.get(key)) is None:
            return None
        stored, expires, answer, places = entry
        if now >= expires:
            del self._kept[key]
            return None
        copy = messages.aged(answer, places, int(now - stored))
        copy[:2] = query[:2]
        return copy

    def put(self, scope: str, query: bytes, end: int, answer: bytes, now: float) -> None:
        """Keep an answer to `query`, whose question ends at `end`, where it may be kept."""
        if len(answer) > _LARGEST or answer[4:6] != b"\0\1" or not (lived := messages.lifetimes(answer, end)):
            return
        seconds, places = lived
        key = (scope, query[2:])
        self._kept.pop(key, None)
        if len(self._kept) >= self._limit:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (now, now + min(seconds, _LONGEST), bytes(answer), places)

    def forget(self, scope: str) -> None:
        for key in [each for each in self._kept if each[0] == scope]:
            del self._kept[key]

"""The container records: in memory for every question, in the state before anything depends on them."""

import asyncio
import re
from collections.abc import Callable, Iterator

from gantry.aio import run_blocking
from gantry.errors import Conflict, InvalidArgument, NotFound
from gantry.model.container import Container
from gantry.ports import State, Table

CONTAINERS = Table("container", Container, unique="name")
_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class Registry:
    """Records by id, name and id prefix, and a lock for each container. Belongs to the event loop's thread."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._locks: dict[str, asyncio.Lock] = {}
        self._writing: dict[str, asyncio.Lock] = {}
        with state.view() as tx:
            self._records: dict[str, Container] = {record.id: record for record in tx.list(CONTAINERS)}
        self._names: dict[str, str] = {record.name: record.id for record in self._records.values()}

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._records.values()))

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._records

    def using_volume(self, name: str) -> list[str]:
        """The containers, running or not, that are configured with a volume."""
        return [c.id for c in self if any(m.type == "volume" and m.name == name for m in c.mounts)]

    def lock(self, container_id: str) -> asyncio.Lock:
        """Held for the length of a change of the container's phase, mounts or networks."""
        return self._locks.setdefault(container_id, asyncio.Lock())

    def get(self, text: str) -> Container:
        """By name, id or id prefix; raises NotFound "No such container: X"."""
        if not text:
            raise InvalidArgument('invalid name or ID supplied: ""')
        found = self._records.get(text)
        if found is not None:
            return found
        if (by_name := self._names.get(text.removeprefix("/"))) is not None:
            return self._records[by_name]
        if text and all(character in "0123456789abcdef" for character in text):
            matching = [key for key in self._records if key.startswith(text)]
            if len(matching) == 1:
                return self._records[matching[0]]
            if matching:
                raise InvalidArgument(f"Multiple IDs found with provided prefix: {text}")
        raise NotFound(f"No such container: {text}")

    def claim(self, name: str, container_id: str) -> None:
        """Take a free name; raises Conflict, or InvalidArgument for what is no name."""
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        bare = name.removeprefix("/")
        holder = self._names.get(bare)
        if holder is not None and holder != container_id:
            raise Conflict(
                f'Conflict. The container name "/{bare}" is already in use by container "{holder}". You have to remove '
                "(or rename) that container to be able to reuse that name."
            )
        self._names[bare] = container_id

    def release(self, name: str, container_id: str) -> None:
        if self._names.get(name) == container_id:
            del self._names[name]

    def taken(self, name: str) -> bool:
        return name in self._names

    async def save(self, container: Container) -> Container:
        """Make a new record durable, then visible; raises Conflict where the name is taken."""
        await run_blocking(self._put, container)
        self._records[container.id] = container
        return container

    def _put(self, container: Container) -> None:
        with self._state.update() as tx:
            tx.put(CONTAINERS, container.id, container)

    async def update(self, container_id: str, change: Callable[[Container], Container]) -> Container:
        """Change a record and make it durable: one change after the other, so that none is lost.

        Raises NotFound where the container is gone, and what `change` raises.
        """
        async with self._writing.setdefault(container_id, asyncio.Lock()):
            return await self.save(change(self._get(container_id)))

    def show(self, container_id: str, change: Callable[[Container], Container]) -> None:
        """Change what is seen of a record; it becomes durable with the next `update`."""
        if container_id in self._records:
            self._records[container_id] = change(self._records[container_id])

    def _get(self, container_id: str) -> Container:
        try:
            return self._records[container_id]
        except KeyError:
            raise NotFound(f"No such container: {container_id}") from None

    def hide(self, container: Container) -> None:
        """Nobody finds it any more; its record stays until `delete`."""
        self._records.pop(container.id, None)
        self.release(container.name, container.id)

    async def delete(self, container: Container) -> None:
        def forget() -> None:
            with self._state.update() as tx:
                tx.delete(CONTAINERS, container.id)

        async with self._writing.setdefault(container.id, asyncio.Lock()):
            await run_blocking(forget)
            self._records.pop(container.id, None)
        self._writing.pop(container.id, None)
        self._locks.pop(container.id, None)
        self.release(container.name, container.id)

"""Removing images by Docker's rules: what may go, what must be forced, what cannot be forced at all."""

from collections.abc import Callable

from gantry.engine.image_garbage import Collector
from gantry.engine.image_store import ImageStore
from gantry.errors import Conflict
from gantry.model.identity import short_id
from gantry.model.reference import Reference

Users = Callable[[str], list[tuple[str, bool]]]  # image id -> (container id, running)


class Removal:
    """One removal. `answer` collects Docker's `Untagged` and `Deleted` items. Blocking."""

    def __init__(self, store: ImageStore, collector: Collector, users: Users) -> None:
        self._store = store
        self._collector = collector
        self._users = users
        self.answer: list[dict[str, str]] = []
        self.freed = 0

    def run(self, name: str, *, force: bool, prune: bool) -> None:
        """Remove a name, and the image with its last one; or the image where `name` is an id.

        With `prune`, parents without a name go too. Raises NotFound, or Conflict with Docker's reasons.
        """
        with self._store.lock:
            image_id, reference = self._store.lookup(name)
            names = self._store.names(image_id)
            if not reference:
                if len({str(known) for known in names if known.tag}) <= 1:
                    self._refuse(image_id, hard=True, references=False, stopped=not force)
                    self._untag(image_id, names)
                self._delete(image_id, force=force, prune=prune, quiet=False)
                return
            users = self._users(image_id)
            if not force and len(names) <= 1 and users:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{name}" (must force) - container '
                    f"{short_id(users[0][0])} is using its referenced image {short_id(image_id)}"
                )
            parsed = Reference.parse(reference)
            self._untag(image_id, [parsed])
            left = self._store.names(image_id)
            if parsed.tag and not any(known.tag for known in left if known.repository == parsed.repository):
                # A digest of the same repository has no meaning without a tag.
                self._untag(image_id, [known for known in left if known.repository == parsed.repository])
            if not self._store.names(image_id):
                self._delete(image_id, force=force, prune=prune, quiet=True)

    def _untag(self, image_id: str, names: list[Reference]) -> None:
        self._store.untag(str(name) for name in names)
        self.answer += [{"Untagged": name.familiar, "image": image_id} for name in names]

    def _delete(self, image_id: str, *, force: bool, prune: bool, quiet: bool) -> None:
        try:
            self._refuse(image_id, hard=True, references=not force, stopped=not force)
        except Conflict:
            # The name is gone, and that was asked for; only somebody who asked for the image itself is told.
            if quiet:
                return
            raise
        self._untag(image_id, self._store.names(image_id))
        parent = self._store.record(image_id).parent
        blobs, chains = self._collector.parts(image_id)
        self._store.forget(image_id)
        self.answer.append({"Deleted": image_id, "image": image_id})
        collected = self._collector.collect({*blobs, *chains})
        self.freed += collected.size
        self.answer += [{"Deleted": chain} for chain in collected.chains]
        if not prune or not parent or not self._store.known(parent) or self._store.names(parent):
            return
        if not self._collector.is_in_making(parent):
            self._delete(parent, force=False, prune=True, quiet=True)

    def _refuse(self, image_id: str, *, hard: bool, references: bool, stopped: bool) -> None:
        """Raise Conflict for the first reason that stands in the way."""
        short = short_id(image_id)
        if hard and self._store.children(image_id):
            raise Conflict(f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images")
        users = self._users(image_id)
        for container, running in users:
            if hard and running:
                raise Conflict(
                    f"conflict: unable to delete {short} (cannot be forced) - "
                    f"image is being used by running container {short_id(container)}"
                )
        if references and self._store.names(image_id):
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )
        for container, running in users:
            if stopped and not running:
                raise Conflict(
                    f"conflict: unable to delete {short} (must be forced) - "
                    f"image is being used by stopped container {short_id(container)}"
                )

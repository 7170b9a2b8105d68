"""What all operations share: the stock, the rules, and who is told."""

import functools
from collections.abc import Callable

import msgspec

from gantry.registry.server.access import Access, Action
from gantry.registry.server.auth import Authenticator
from gantry.registry.server.blobs import RepositoryBlobs
from gantry.registry.server.config import Config
from gantry.registry.server.depot import Depot
from gantry.registry.server.documents import ANY_URL, URLRule
from gantry.registry.server.errors import RegistryError
from gantry.registry.server.exchange import Exchange
from gantry.registry.server.manifests import Manifests
from gantry.registry.server.patterns import Patterns
from gantry.registry.server.quotas import Quotas
from gantry.registry.server.uploads import Uploads


class _Immutable(msgspec.Struct, frozen=True):
    repositories: Patterns
    tags: Patterns


class Service:
    """One registry: storage, access and configuration, used by every handler."""

    def __init__(self, config: Config, depot: Depot, auth: Authenticator, *, login: bool, deletes: bool) -> None:
        self.config = config
        self.depot = depot
        self.auth = auth
        self.login = login
        self.deletes = deletes
        self.access = Access(config.gantry.access, login=login)
        checks = config.validation.manifests
        self.manifests = Manifests(
            depot,
            URLRule(checks.urls.allow, checks.urls.deny) if not config.validation.disabled else ANY_URL,
            whole_indexes=checks.indexes.platforms == "all" and not config.validation.disabled,
        )
        self.uploads = Uploads(depot)
        self.blobs = RepositoryBlobs(depot, config.gantry.collect.grace / 4)
        self.idle = float(config.gantry.limits.idle)
        self.read_only = config.storage.maintenance.readonly.enabled
        self.quotas = Quotas(depot, config.gantry.quotas)
        self.failing: Callable[[], str] = str  # what the health checks say, "" for nothing
        self._immutable = [
            _Immutable(Patterns(each.repositories), Patterns(each.tags)) for each in config.gantry.immutable
        ]

    # ---------------------------------------------------------------------------------- access

    def need(self, exchange: Exchange, *actions: Action, repository: str | None = None) -> None:
        """Refuse who may do none of `actions`: UNAUTHORIZED where a login could help, DENIED else."""
        name = exchange.repository if repository is None else repository
        if any(self.access.allows(exchange.identity, action, name) for action in actions):
            return
        identity = exchange.identity
        if self.login and (not identity.account or identity.granted is not None):
            error = "insufficient_scope" if identity.granted is not None else ""
            challenge = self.auth.challenge(name, actions, error)
            raise RegistryError("UNAUTHORIZED", name, headers={"WWW-Authenticate": challenge})
        wanted = " or ".join(action.value for action in actions)
        raise RegistryError("DENIED", f"{identity.shown} may not {wanted} {name or 'here'}")

    def need_write(self, exchange: Exchange, *actions: Action) -> None:
        """As `need`, where the registry may be changed at all."""
        self.need(exchange, *actions)
        if self.read_only:
            raise RegistryError("UNSUPPORTED", "the registry is in read-only mode")
        if self.config.proxy.remoteurl:
            raise RegistryError("UNSUPPORTED", "the registry is a pull-through cache")

    def need_delete(self, exchange: Exchange) -> None:
        if not self.deletes:
            self.need(exchange, Action.DELETE)
            raise RegistryError("UNSUPPORTED", "deletion is off (storage.delete.enabled)")
        self.need_write(exchange, Action.DELETE)

    # ----------------------------------------------------------------------------------- rules

    def immutable(self, repository: str, tag: str) -> bool:
        return any(repository in rule.repositories and tag in rule.tags for rule in self._immutable)

    def may_replace(self, exchange: Exchange, tag: str) -> Callable[[str], None]:
        """What `Manifests.put` asks before a tag that exists comes to name another manifest."""

        def check(old: str) -> None:
            if self.immutable(exchange.repository, tag):
                raise RegistryError("DENIED", f"tag {tag} is immutable and names {old}")
            self.need(exchange, Action.PUSH)

        return check

    def room(self, exchange: Exchange) -> Callable[[int], None]:
        """What is asked before a repository grows."""
        return functools.partial(self.quotas.take, exchange.repository)

    def refuse_immutable(self, repository: str, tags: list[str]) -> None:
        for tag in tags:
            if self.immutable(repository, tag):
                raise RegistryError("DENIED", f"tag {tag} is immutable")

"""Who may do what: identities, and the rules that grant actions on repositories."""

import enum
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from gantry.registry.server.config import Rule
from gantry.registry.server.patterns import Patterns

ANONYMOUS = "anonymous"


class Action(enum.StrEnum):
    """What a request wants. PUSH includes CREATE: the latter may add tags, and move or overwrite none."""

    PULL = "pull"
    PUSH = "push"
    CREATE = "create"
    DELETE = "delete"
    ADMIN = "admin"


class Identity(msgspec.Struct, frozen=True):
    """Who asks. `granted` is what a bearer token allows (repository -> actions); None where there was none."""

    account: str = ""
    granted: Mapping[str, AbstractSet[str]] | None = None

    @property
    def shown(self) -> str:
        return self.account or ANONYMOUS


class _Grant:
    def __init__(self, rule: Rule) -> None:
        self._anonymous = ANONYMOUS in rule.accounts
        self._accounts = Patterns(name for name in rule.accounts if name != ANONYMOUS)
        self._repositories = Patterns(rule.repositories)
        self._actions = frozenset(rule.actions) | ({"create"} if "push" in rule.actions else frozenset())

    def gives(self, account: str, repository: str, action: Action) -> bool:
        known = account in self._accounts if account else self._anonymous
        return known and action in self._actions and (not repository or repository in self._repositories)


class Access:
    """The rules. Without any, whoever is known may do everything (and everybody, where nobody needs to log in)."""

    def __init__(self, rules: Iterable[Rule], *, login: bool) -> None:
        self._grants = [_Grant(rule) for rule in rules]
        self._login = login

    def allows(self, identity: Identity, action: Action, repository: str) -> bool:
        """`repository` is "" for what concerns the registry as a whole."""
        if identity.granted is not None and not self._token_allows(identity.granted, action, repository):
            return False
        if self._grants:
            return any(grant.gives(identity.account, repository, action) for grant in self._grants)
        return not self._login or bool(identity.account) or identity.granted is not None

    @staticmethod
    def _token_allows(granted: Mapping[str, AbstractSet[str]], action: Action, repository: str) -> bool:
        if not repository:
            return action is not Action.ADMIN or "*" in granted.get("registry:catalog", ())
        wanted = {"push", "create"} if action is Action.CREATE else {action.value}
        return bool(granted.get(repository, frozenset()) & (wanted | {"*"}))

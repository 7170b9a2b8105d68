"""The variables of a build: `--build-arg`, predefined arguments, and what ARG declares."""

from collections.abc import Mapping

from gantry.model.platform import Platform

# May be given without being declared; what they hold is no part of a cache key and of no history.
PROXIES = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


def platform_variables(target: Platform) -> dict[str, str]:
    """BUILDPLATFORM, TARGETPLATFORM and their parts (Dockerfile reference, "Automatic platform ARGs")."""
    found = {}
    for kind, platform in (("BUILD", Platform.host()), ("TARGET", target)):
        found[f"{kind}PLATFORM"] = str(platform)
        found[f"{kind}OS"] = platform.os
        found[f"{kind}ARCH"] = platform.architecture
        found[f"{kind}VARIANT"] = platform.variant
    return found


class Arguments:
    """One build's arguments, and which of them were asked for."""

    def __init__(self, given: Mapping[str, str | None], target: Platform) -> None:
        self._given = {name: value for name, value in given.items() if value is not None}
        self._all_given = set(given)
        self._consumed: set[str] = set()
        self.automatic = platform_variables(target)
        self.globals: dict[str, str] = {}

    def value(self, name: str) -> str | None:
        """What `--build-arg` says."""
        self._consumed.add(name)
        return self._given.get(name)

    def declare_global(self, name: str, default: str | None) -> None:
        """An ARG above the first FROM."""
        value = self.value(name)
        if value is None:
            value = default if default is not None else self.automatic.get(name)
        if value is not None:
            self.globals[name] = value

    def declared(self, name: str, default: str | None) -> str | None:
        """The value of an ARG inside a stage, None where it has none."""
        value = self.value(name)
        if value is not None:
            return value
        if default is not None:
            return default
        return self.globals.get(name, self.automatic.get(name))

    def for_from(self) -> dict[str, str]:
        """What FROM lines may use."""
        return {**self.automatic, **self.globals}

    def proxies(self) -> dict[str, str]:
        return {name: value for name, value in self._given.items() if name in PROXIES}

    def unused(self) -> list[str]:
        return sorted(self._all_given - self._consumed - PROXIES)

"""Filters of image lists (`filters` of `GET /images/json` and of prune)."""

import re

import msgspec

from gantry.engine.images import Images, created_at
from gantry.errors import InvalidArgument
from gantry.model.image import Image
from gantry.model.reference import Reference
from gantry.wire.times import moment

_LIST = frozenset({"before", "dangling", "label", "label!", "reference", "since", "until"})
_PRUNE = frozenset({"dangling", "label", "label!", "until"})


class ImageFilter:
    """Which images belong into a list. Of an image that is asked for by name, only the matching names are shown."""

    def __init__(self, wanted: dict[str, list[str]]) -> None:
        _known(wanted, _LIST)
        self._wanted = wanted
        self._dangling = dangling(wanted)
        self._patterns = [_glob(pattern) for pattern in wanted.get("reference", ())]
        self._until = moment(wanted["until"][-1]) if wanted.get("until") else 0
        self._before: list[int] = []
        self._since: list[int] = []

    async def resolve(self, images: Images) -> None:
        """Look the images up that `before` and `since` name; raises NotFound."""
        self._before = [created_at(await images.get(name)) for name in self._wanted.get("before", ())]
        self._since = [created_at(await images.get(name)) for name in self._wanted.get("since", ())]

    def __call__(self, image: Image) -> Image | None:
        created = created_at(image)
        if self._dangling is not None and self._dangling != (not image.repo_tags):
            return None
        if any(created >= moment for moment in self._before) or any(created <= moment for moment in self._since):
            return None
        if (self._until and created > self._until) or not labels_match(image, self._wanted):
            return None
        if not self._patterns:
            return image
        tags = tuple(name for name in image.repo_tags if self._matches(name))
        digests = tuple(name for name in image.repo_digests if self._matches(name))
        return msgspec.structs.replace(image, repo_tags=tags, repo_digests=digests) if tags or digests else None

    def _matches(self, name: str) -> bool:
        bare = Reference.parse(name).familiar_name
        return any(pattern.fullmatch(name) or pattern.fullmatch(bare) for pattern in self._patterns)


class PruneFilter:
    """Which images are kept; `dangling` says whether only those without a tag go."""

    def __init__(self, wanted: dict[str, list[str]]) -> None:
        _known(wanted, _PRUNE)
        self._wanted = wanted
        self._until = moment(wanted["until"][-1]) if wanted.get("until") else 0
        self.dangling = dangling(wanted) is not False

    def __call__(self, image: Image) -> bool:
        return (bool(self._until) and created_at(image) > self._until) or not labels_match(image, self._wanted)


def _known(wanted: dict[str, list[str]], known: frozenset[str]) -> None:
    for name in wanted:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")


def dangling(wanted: dict[str, list[str]]) -> bool | None:
    values = wanted.get("dangling")
    if not values:
        return None
    if values in (["1"], ["true"]):
        return True
    if values in (["0"], ["false"]):
        return False
    raise InvalidArgument(f"invalid filter 'dangling=[{' '.join(values)}]'")


def labels_match(image: Image, wanted: dict[str, list[str]]) -> bool:
    """Every `label`, and no `label!`."""
    labels = image.config.labels or {}

    def has(text: str) -> bool:
        key, equals, value = text.partition("=")
        return key in labels and (not equals or labels[key] == value)

    return all(has(text) for text in wanted.get("label", ())) and not any(has(t) for t in wanted.get("label!", ()))


def _glob(pattern: str) -> re.Pattern[str]:
    """Go's path.Match: `*` and `?` stop at a slash."""
    text, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            text += "[^/]*"
        elif character == "?":
            text += "[^/]"
        elif character == "\\" and at < len(pattern):
            text += re.escape(pattern[at])
            at += 1
        elif character == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                raise InvalidArgument("syntax error in pattern")
            inside = pattern[at:end].replace("\\", "\\\\").replace("[", "\\[")
            text += f"[{inside}]"
            at = end + 1
        else:
            text += re.escape(character)
    try:
        return re.compile(text, re.DOTALL)
    except re.error:
        raise InvalidArgument("syntax error in pattern") from None

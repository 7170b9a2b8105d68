"""`gantry manifest`: look at manifests in registries, and put manifest lists together. No daemon takes part."""

from __future__ import annotations

import asyncio
import json

from gantry.cli.command import Command, Context
from gantry.cli.errors import CommandError
from gantry.cli.flags import boolean, string, string_slice
from gantry.cli.manifest_store import ManifestStore, entry_of, in_order, list_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from gantry.cli.flags import Arguments
    from gantry.model.reference import Reference
    from gantry.registry.repository import RemoteRepository

_LISTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_PLATFORMS = {
    "aix": "ppc64", "android": "386 amd64 arm arm64", "darwin": "386 amd64 arm arm64", "dragonfly": "amd64",
    "freebsd": "386 amd64 arm", "illumos": "amd64", "ios": "arm64", "js": "wasm",
    "linux": "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x sparc64",
    "netbsd": "386 amd64 arm", "openbsd": "386 amd64 arm", "plan9": "386 amd64", "solaris": "amd64",
    "wasip1": "wasm", "windows": "386 amd64 arm arm64", "": "",
}  # fmt: skip
_CONFIG_LIMIT = 4 << 20


def _parse(text: str) -> Reference:
    from gantry.errors import InvalidArgument
    from gantry.model.reference import Reference

    try:
        return Reference.parse(text)
    except InvalidArgument as error:
        raise CommandError(error.message) from error


class _Remote:
    """Repositories of one command's run, with the user's credentials."""

    def __init__(self, ctx: Context, *references: Reference, insecure: bool) -> None:
        from gantry.registry.client import RegistryClient
        from gantry.registry.settings import RegistrySettings

        self._ctx = ctx
        domains = tuple(reference.domain for reference in references) if insecure else ()
        self._client = RegistryClient(RegistrySettings(insecure=domains, proxies={}))

    def of(self, reference: Reference, *, push: bool = False) -> RemoteRepository:
        from gantry.client.auth import credentials

        known = credentials(self._ctx.config, reference.domain)
        return self._client.repository(reference, json.dumps(known) if known else "", push=push)

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run `work` to its end in a loop of its own; raises CommandError."""
        from gantry.errors import GantryError

        async def whole() -> Any:
            try:
                return await work()
            finally:
                await self._client.close()

        try:
            return asyncio.run(whole())
        except GantryError as error:
            raise CommandError(error.message) from error


async def _get(remote: _Remote, reference: Reference) -> tuple[dict[str, Any], bytes]:
    """The descriptor and bytes of a manifest or list; CommandError in Docker's words where there is none."""
    from gantry.errors import NotFound

    try:
        descriptor, data = await remote.of(reference).manifest(reference.digest or reference.tag)
    except NotFound:
        raise CommandError(f"no such manifest: {reference.familiar}") from None
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}, data


async def _entry(remote: _Remote, reference: Reference, shown_as: str = "") -> dict[str, Any]:
    """A manifest with its platform; raises CommandError for a list."""
    from gantry.model.image import Descriptor

    descriptor, data = await _get(remote, reference)
    if descriptor["mediaType"] in _LISTS:
        raise CommandError(f"{reference.familiar} is a manifest list")
    about = json.loads(data)["config"]
    platform: dict[str, Any] = {}
    if about["mediaType"] in _CONFIGS:
        config = Descriptor(about["mediaType"], about["digest"], about["size"])
        document = json.loads(await remote.of(reference).read(config, _CONFIG_LIMIT))
        for name in ("architecture", "os", "os.version", "os.features", "variant"):
            if document.get(name):
                platform[name] = document[name]
    if platform:
        descriptor["platform"] = platform
    return entry_of(shown_as or str(reference), descriptor, data)


# ----------------------------------------------------------------------------------------------- inspect


def _inspect(ctx: Context, args: Arguments) -> int:
    names = [_parse(text) for text in args.positional]
    store, verbose = ManifestStore(ctx.config_dir), args.boolean("verbose")
    if len(names) == 2:
        entry = store.image(names[0], names[1])
        if entry is None:
            raise CommandError(f"No such manifest: {names[1].familiar}")
        _show(ctx, entry, verbose=verbose)
        return 0
    if entries := store.images(names[0]):
        if verbose:
            ctx.out.write(json.dumps(entries, indent="\t", ensure_ascii=False) + "\n")
        else:
            ctx.out.write(list_of(entries)[1].decode() + "\n")
        return 0
    remote = _Remote(ctx, names[0], insecure=args.boolean("insecure"))
    result = remote.run(lambda: _look(remote, names[0], verbose=verbose))
    if isinstance(result, dict):
        _show(ctx, result, verbose=verbose)
    elif isinstance(result, bytes):
        document = json.loads(result)
        ctx.out.write(shown(document).decode() + "\n")
    else:
        ctx.out.write(json.dumps(result, indent="\t", ensure_ascii=False) + "\n")
    return 0


async def _look(remote: _Remote, reference: Reference, *, verbose: bool) -> Any:
    """An entry for a manifest, bytes for a list, entries for one that is to be shown with all it names."""
    from gantry.model.reference import Reference

    descriptor, data = await _get(remote, reference)
    if descriptor["mediaType"] not in _LISTS:
        return await _entry(remote, reference) if verbose else entry_of(str(reference), descriptor, data)
    if not verbose:
        return data
    entries = []
    for part in json.loads(data).get("manifests") or []:
        one = Reference(reference.domain, reference.path, reference.tag, part["digest"])
        entry = await _entry(remote, one)
        if part.get("platform"):
            entry["Descriptor"]["platform"] = part["platform"]
        entries.append(entry)
    return entries


def _show(ctx: Context, entry: dict[str, Any], *, verbose: bool) -> None:
    plain = entry if verbose else entry.get("OCIManifest") or entry.get("SchemaV2Manifest") or {}
    ctx.out.write(json.dumps(plain, indent="\t", ensure_ascii=False) + "\n")


_INSECURE = boolean("insecure", "", "Allow communication with an insecure registry")

INSPECT = Command(
    _inspect,
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    (_INSECURE, boolean("verbose", "v", "Output additional info including layers and platform")),
    least=1,
    most=2,
)


# -------------------------------------------------------------------------------- create, annotate, rm


def _create(ctx: Context, args: Arguments) -> int:
    target, *images = (_parse(text) for text in args.positional)
    store = ManifestStore(ctx.config_dir)
    if store.images(target) and not args.boolean("amend"):
        raise CommandError("refusing to amend an existing manifest list with no --amend flag")
    remote = _Remote(ctx, *images, insecure=args.boolean("insecure"))

    async def work() -> list[dict[str, Any]]:
        return [store.image(target, image) or await _entry(remote, image) for image in images]

    for image, entry in zip(images, remote.run(work), strict=True):
        store.save(target, image, entry)
    ctx.out.write(f"Created manifest list {target.familiar}\n")
    return 0


CREATE = Command(
    _create,
    "MANIFEST_LIST MANIFEST [MANIFEST...]",
    (boolean("amend", "a", "Amend an existing manifest list"), _INSECURE),
    least=2,
)


def _annotate(ctx: Context, args: Arguments) -> int:
    target, image = (_parse(text) for text in args.positional)
    store = ManifestStore(ctx.config_dir)
    entry = store.image(target, image)
    if entry is None:
        raise CommandError(f"manifest for image {args.positional[1]} does not exist in {args.positional[0]}")
    platform: dict[str, Any] = dict(entry["Descriptor"].get("platform") or {})
    for flag, name in (("os", "os"), ("arch", "architecture"), ("variant", "variant"), ("os-version", "os.version")):
        if args.string(flag):
            platform[name] = args.string(flag)
    if features := args.strings("os-features"):
        platform["os.features"] = list(dict.fromkeys([*platform.get("os.features", []), *features]))
    system, architecture = str(platform.get("os", "")), str(platform.get("architecture", ""))
    if architecture not in _PLATFORMS.get(system, "").split():
        raise CommandError(
            f"manifest entry for image has unsupported os/arch combination: {args.string('os')}/{args.string('arch')}"
        )
    entry["Descriptor"]["platform"] = in_order(platform)
    store.save(target, image, entry)
    return 0


ANNOTATE = Command(
    _annotate,
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    (
        string("arch", "", "Set architecture"),
        string("os", "", "Set operating system"),
        string_slice("os-features", "", "Set operating system feature"),
        string("os-version", "", "Set operating system version"),
        string("variant", "", "Set architecture variant"),
    ),
    least=2,
    most=2,
)


def _rm(ctx: Context, args: Arguments) -> int:
    store = ManifestStore(ctx.config_dir)
    problems = []
    for text in args.positional:
        target = _parse(text)
        if store.images(target):
            store.remove(target)
        else:
            problems.append(f"No such manifest: {target.familiar}")
    if problems:
        raise CommandError("\n".join(problems))
    return 0


RM = Command(_rm, "MANIFEST_LIST [MANIFEST_LIST...]", least=1)


# -------------------------------------------------------------------------------------------------- push


def _push(ctx: Context, args: Arguments) -> int:
    target = _parse(args.positional[0])
    store = ManifestStore(ctx.config_dir)
    entries = store.images(target)
    if not entries:
        raise CommandError(f"No such manifest: {target.familiar}")
    for entry in entries:
        source = _parse(entry["Ref"])
        if source.domain != target.domain:
            raise CommandError(
                "cannot use source images from a different registry than the target image: "
                f"{source.domain} != {target.domain}"
            )
        platform = entry["Descriptor"].get("platform") or {}
        if not platform.get("architecture") or not platform.get("os"):
            raise CommandError(f"manifest {entry['Ref']} must have an OS and Architecture to be pushed to a registry")
    remote = _Remote(ctx, target, insecure=args.boolean("insecure"))

    async def work() -> str:
        place = remote.of(target, push=True)
        for entry in entries:
            data = await _bring(place, entry)
            digest = await place.put_manifest(entry["Descriptor"]["digest"], entry["Descriptor"]["mediaType"], data)
            ctx.out.write(f"Pushed ref {target.familiar_name}@{digest} with digest: {digest}\n")
        media_type, data = list_of(entries)
        return await place.put_manifest(target.tag, media_type, data)

    ctx.out.write(f"{remote.run(work)}\n")
    if args.boolean("purge"):
        store.remove(target)
    return 0


async def _bring(place: RemoteRepository, entry: dict[str, Any]) -> bytes:
    """See to it that the blobs of a manifest are in the repository; returns the manifest's bytes."""
    import base64

    data = base64.b64decode(entry["Raw"])
    document = json.loads(data)
    source = _parse(entry["Ref"])
    if source.path != place.name:
        for digest in dict.fromkeys(part["digest"] for part in [document["config"], *document["layers"]]):
            if not await place.has(digest) and not await place.mount(digest, source.path):
                raise CommandError(
                    f"blob {digest} of {entry['Ref']} cannot be mounted into {place.name}: push it first"
                )
    return data


PUSH = Command(
    _push,
    "[OPTIONS] MANIFEST_LIST",
    (_INSECURE, boolean("purge", "p", "Remove the local manifest list after push")),
    least=1,
    most=1,
)

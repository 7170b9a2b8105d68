"""The one place that knows every implementation: it makes them, joins them, starts and stops them."""

import logging
import os
import uuid
from pathlib import Path
from typing import Self

from gantry.aio import TaskOwner, run_blocking
from gantry.api import archive as archive_api
from gantry.api import build as build_api
from gantry.api import containers as containers_api
from gantry.api import disk as disk_api
from gantry.api import execs as execs_api
from gantry.api import images as images_api
from gantry.api import networks as networks_api
from gantry.api import registries as registries_api
from gantry.api import system as system_api
from gantry.api import volume_contents as volume_contents_api
from gantry.api import volumes as volumes_api
from gantry.api.routing import Route
from gantry.build.builder import Builder
from gantry.daemon import host, userns
from gantry.daemon.config import Config
from gantry.daemon.defaults import LOG_DRIVERS, ContainerDefaults, ca_bundle
from gantry.engine.archive import Archives
from gantry.engine.containers import Containers
from gantry.engine.create import Creator
from gantry.engine.disk import Disk
from gantry.engine.distribution import Distribution
from gantry.engine.events import EventBus
from gantry.engine.execs import Execs
from gantry.engine.image_layers import LayerPuller
from gantry.engine.image_pull import Puller
from gantry.engine.image_push import Pusher
from gantry.engine.images import Images
from gantry.engine.lifecycle import Lifecycle
from gantry.engine.networks import NetworkCases
from gantry.engine.registry import Registry
from gantry.engine.system import Host, Settings, System
from gantry.engine.volume_contents import VolumeTransfers
from gantry.engine.volumes import VolumeCases
from gantry.logs.keeper import LogKeeper
from gantry.model.remap import Remap
from gantry.network.host import HostNetworks
from gantry.network.settings import NetworkSettings, parse_pool
from gantry.registry.client import RegistryClient
from gantry.registry.settings import RegistryRule, RegistrySettings
from gantry.runtime.manager import RuntimeManager
from gantry.store.content import BlobStore
from gantry.store.layers import OverlayLayers
from gantry.store.leases import MemoryLeases
from gantry.store.snapshots import OverlaySnapshotter
from gantry.store.state import SQLiteState
from gantry.volumes.local import LocalVolumes

log = logging.getLogger(__name__)

_DEFAULT_MTU = 1500


class Assembly:
    """All rooms of one daemon, joined. `routes` is what it serves; `start` before, `stop` after."""

    def __init__(
        self, config: Config, engine_id: str, runtime: RuntimeManager, machine: Host, remap: Remap | None = None
    ) -> None:
        self.config = config
        self._id = engine_id
        instance = config.instance
        data, running = instance.data_root, instance.exec_root
        self._owner = TaskOwner("engine")
        self._warnings: tuple[str, ...] = ()

        self._state = SQLiteState(data / "state.db")
        content = BlobStore(data / "content")
        snapshots = OverlaySnapshotter(data / "snapshots", self._state)
        layers = OverlayLayers(content, snapshots, running / "mounts", remap)
        leases = MemoryLeases()

        self._runtime = runtime
        self._events = EventBus()
        self._networks = HostNetworks(instance, self._state, network_settings(config), remap)
        registry = Registry(self._state)
        root = (remap.uid, remap.gid) if remap else (0, 0)
        self._volumes = LocalVolumes(instance, self._state, registry.using_volume, root)
        volumes = VolumeCases(self._volumes, self._volumes, self._events)
        logs = LogKeeper(runtime.reopen_log, self._owner, machine.name)

        self._images = Images(self._state, content, snapshots, layers, leases, self._events)
        self._registries = RegistryClient(registry_settings(config))
        downloads = LayerPuller(content, snapshots, layers, self._owner, config.max_concurrent_downloads)
        self._images.puller = Puller(
            self._state, self._images.store, self._images.collector, leases, self._registries, downloads, self._owner
        )
        distribution = Distribution(self._registries)
        self._images.pusher = Pusher(
            self._images.store, leases, self._registries, self._owner, config.max_concurrent_uploads
        )
        self._system = System(
            machine,
            self._settings,
            tasks=runtime,
            containers=registry,
            images=self._images,
            components=host.components,
            listeners=lambda: 0,
        )
        self._lifecycle = Lifecycle(
            instance,
            registry,
            snapshots,
            runtime,
            runtime,
            runtime,
            self._networks,
            self._networks,
            volumes,
            self._events,
            self._owner,
            ca_bundle=ca_bundle(),
            init=config.init,
            stop_timeout=config.default_stop_timeout,
            traces=self._system.record_trace,
        )
        creator = Creator(
            instance,
            registry,
            self._images,
            snapshots,
            layers,
            volumes,
            runtime,
            self._events,
            leases=leases,
            networks=self._networks,
            defaults=ContainerDefaults(config),
            remap=remap,
        )
        execs = Execs(registry, self._lifecycle, runtime, runtime, self._owner)
        containers = Containers(
            registry,
            creator,
            self._lifecycle,
            execs,
            self._images,
            snapshots,
            layers,
            runtime,
            runtime,
            self._networks,
            logs,
            remap,
        )
        self._containers = containers
        self._images.containers_using = containers.using_image
        self._images.settled = self._lifecycle.settle
        self._builder = Builder(
            instance,
            self._state,
            self._images,
            snapshots,
            layers,
            leases,
            runtime,
            runtime,
            self._networks,
            self._events,
            ca_bundle=ca_bundle(),
            host_ca=config.host_ca,
            default_runtime=runtime.default_runtime(),
        )
        self.routes: list[Route] = [
            *system_api.routes(self._system, self._events, LOG_DRIVERS),
            *containers_api.routes(containers),
            *execs_api.routes(execs),
            *archive_api.routes(containers, Archives(containers)),
            *registries_api.routes(distribution, self._images),
            *images_api.routes(self._images, distribution),
            *networks_api.routes(NetworkCases(self._networks, registry, self._lifecycle.connections, self._events)),
            *volumes_api.routes(volumes),
            *volume_contents_api.routes(VolumeTransfers(volumes, self._volumes, self._events)),
            *build_api.routes(self._builder),
            *disk_api.routes(Disk(registry, self._images, self._volumes, self._volumes, snapshots), self._builder),
        ]

    @classmethod
    async def make(cls, config: Config) -> Self:
        """Look at the machine and join the rooms; nothing runs yet."""
        instance = config.instance
        runtimes = {name: (runtime.path, runtime.runtime_args) for name, runtime in config.runtimes.items()}
        remap = await run_blocking(userns.prepare, config.userns_remap, instance)
        runtime = await run_blocking(
            RuntimeManager.open,
            instance,
            default_runtime=config.default_runtime,
            runtimes=runtimes,
            cdi_directories=config.cdi_spec_dirs,
            remap=remap,
        )
        machine = await run_blocking(host.describe, instance.data_root, remapped=remap is not None)
        return cls(config, await run_blocking(_engine_id, instance.data_root / "engine-id"), runtime, machine, remap)

    async def start(self) -> None:
        """Bring records and machine in line, adopt the containers that live, restart those that should."""
        await self._images.start()
        await self._volumes.start()
        await self._lifecycle.recover()
        self._containers.finish_logs()
        await self._builder.recover()
        self._warnings = tuple(await self._networks.warnings())
        name, problems = self._runtime.default_runtime(), self._runtime.runtimes()
        if name:
            log.info("Default runtime: %s", name)
        for other, info in problems.items():
            if info.path and info.problem:
                log.warning("Runtime %s cannot be used: %s", other, info.problem)
        if not name:
            log.warning("No OCI runtime can be used: containers cannot be started (apt-get install crun)")

    def reload(self, config: Config) -> None:
        """Take over a reloaded configuration and tell the subscribers of events."""
        self.config = config
        self._registries.reload(registry_settings(config))
        self._events.publish("daemon", "reload", self._id, _reload_attributes(config, self._system.host.name))

    async def stop_containers(self) -> None:
        """Stop the containers, unless they are to live on."""
        if not self.config.live_restore:
            await self._lifecycle.shutdown(self.config.shutdown_timeout)

    async def stop(self) -> None:
        """Let go of everything, in reverse order."""
        await self._builder.close()
        await self._lifecycle.settle()
        await self._owner.close()
        await self._registries.close()
        await self._runtime.close()
        await self._networks.stop()
        await run_blocking(self._state.close)

    def _settings(self) -> Settings:
        config = self.config
        return Settings(
            id=self._id,
            data_root=config.data_root,
            debug=config.debug,
            labels=config.labels,
            live_restore=config.live_restore,
            log_driver=config.log_driver,
            cdi_spec_dirs=config.cdi_spec_dirs,
            insecure_registries=config.insecure_registries,
            registry_mirrors=config.registry_mirrors,
            address_pools=tuple((pool.base, pool.size) for pool in config.default_address_pools),
            http_proxy=config.proxies.get("http-proxy", os.environ.get("HTTP_PROXY", "")),
            https_proxy=config.proxies.get("https-proxy", os.environ.get("HTTPS_PROXY", "")),
            no_proxy=config.proxies.get("no-proxy", os.environ.get("NO_PROXY", "")),
            warnings=(*self._warnings, *config.warnings),
        )


def registry_settings(config: Config) -> RegistrySettings:
    """The registries' part of the configuration."""
    rules = {name: RegistryRule(rule.mirrors, rule.server) for name, rule in config.registries.items()}
    hub = rules.get("docker.io", RegistryRule())
    if config.registry_mirrors:
        rules["docker.io"] = RegistryRule((*config.registry_mirrors, *hub.mirrors), hub.server)
    return RegistrySettings(
        rules=rules,
        insecure=config.insecure_registries,
        proxies=config.proxies,
        downloads=config.max_concurrent_downloads,
        uploads=config.max_concurrent_uploads,
        attempts=config.max_download_attempts,
    )


def network_settings(config: Config) -> NetworkSettings:
    """The network's part of the configuration. Raises InvalidArgument."""
    return NetworkSettings(
        bridge=config.bridge,
        bip=config.bip,
        fixed_cidr=config.fixed_cidr,
        default_gateway=config.default_gateway,
        default_address_pools=tuple(parse_pool(pool.base, pool.size) for pool in config.default_address_pools),
        mtu=0 if config.mtu == _DEFAULT_MTU else config.mtu,
        ip=config.ip,
        ip_forward=config.ip_forward,
        ip_masq=config.ip_masq,
        icc=config.icc,
        iptables=config.iptables,
        ipv6=config.ipv6,
        bip6=config.bip6,
        fixed_cidr6=config.fixed_cidr_v6,
        default_gateway6=config.default_gateway_v6,
        ip6tables=config.ip6tables,
        userland_proxy=config.userland_proxy,
        dns=config.dns,
        dns_search=config.dns_search,
        dns_options=config.dns_opts,
        host_gateway_ip=next(iter(config.host_gateway_ips), ""),
    )


def _engine_id(path: Path) -> str:
    """This data root's identity, made once."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        value = str(uuid.uuid4())
        path.write_text(value)
        return value


def _reload_attributes(config: Config, name: str) -> dict[str, str]:
    """What Docker tells about a reload."""
    return {
        "name": name,
        "debug": str(config.debug).lower(),
        "default-cgroupns-mode": config.default_cgroupns_mode,
        "default-ipc-mode": config.default_ipc_mode,
        "default-shm-size": str(config.default_shm_size),
        "default-stop-timeout": str(config.default_stop_timeout),
        "default-runtime": config.default_runtime,
        "insecure-registries": "[" + ",".join(f'"{each}"' for each in config.insecure_registries) + "]",
        "labels": "[" + ",".join(f'"{each}"' for each in config.labels) + "]",
        "live-restore": str(config.live_restore).lower(),
        "max-concurrent-downloads": str(config.max_concurrent_downloads),
        "max-concurrent-uploads": str(config.max_concurrent_uploads),
        "max-download-attempts": str(config.max_download_attempts),
        "registry-mirrors": "[" + ",".join(f'"{each}"' for each in config.registry_mirrors) + "]",
        "runtimes": "[" + ",".join(f'"{each}"' for each in config.runtimes) + "]",
        "shutdown-timeout": str(config.shutdown_timeout),
    }

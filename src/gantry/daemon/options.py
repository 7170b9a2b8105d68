"""Every option of the daemon, as data: Docker's flags and `daemon.json` keys, and those of our own.

What has no effect here is refused or warned about, with the reason; nothing is ignored in silence.
"""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    BOOL = ""
    STRING = "string"
    INT = "int"
    LIST = "list"
    MAP = "map"
    NESTED = "mapmap"
    RUNTIME = "runtime"
    POOL = "pool-options"
    ULIMIT = "ulimit"
    BYTES = "bytes"


class Option(NamedTuple):
    """`key` is the daemon.json key; `flag` is "" where only the file has it."""

    key: str
    flag: str
    kind: Kind
    help: str
    short: str = ""


_B, _S, _I, _L, _M = Kind.BOOL, Kind.STRING, Kind.INT, Kind.LIST, Kind.MAP

OPTIONS: tuple[Option, ...] = (
    Option("runtimes", "add-runtime", Kind.RUNTIME, "Register an additional OCI runtime (name=path)"),
    Option("allow-direct-routing", "allow-direct-routing", _B, "Let other hosts route to container addresses"),
    Option("allow-insecure-tcp", "allow-insecure-tcp", _B, "Serve tcp:// without TLS on addresses others can reach"),
    Option("authorization-plugins", "authorization-plugin", _L, "Authorization plugins to load"),
    Option("bip", "bip", _S, "IPv4 address and prefix of the default bridge"),
    Option("bip6", "bip6", _S, "IPv6 address and prefix of the default bridge"),
    Option("bridge", "bridge", _S, "Use an existing bridge for containers, or none", "b"),
    Option("bridge-accept-fwmark", "bridge-accept-fwmark", _S, "Accept packets with this mark in bridge networks"),
    Option("cdi-spec-dirs", "cdi-spec-dir", _L, "Directories of CDI specifications"),
    Option("cgroup-parent", "cgroup-parent", _S, "Parent cgroup of all containers"),
    Option("containerd", "containerd", _S, "containerd address"),
    Option("containerd-namespace", "containerd-namespace", _S, "containerd namespace"),
    Option("containerd-plugin-namespace", "containerd-plugins-namespace", _S, "containerd namespace of plugins"),
    Option("cpu-rt-period", "cpu-rt-period", _I, "CPU real-time period for the parent cgroup, microseconds"),
    Option("cpu-rt-runtime", "cpu-rt-runtime", _I, "CPU real-time runtime for the parent cgroup, microseconds"),
    Option("cri-containerd", "cri-containerd", _B, "Start containerd with CRI"),
    Option("data-root", "data-root", _S, "Directory of everything that lasts"),
    Option("debug", "debug", _B, "Log debugging messages", "D"),
    Option("default-address-pools", "default-address-pool", Kind.POOL, "Address pools of new networks"),
    Option("default-cgroupns-mode", "default-cgroupns-mode", _S, "Cgroup namespace of containers (host|private)"),
    Option("default-gateway", "default-gateway", _S, "IPv4 gateway of the default bridge's containers"),
    Option("default-gateway-v6", "default-gateway-v6", _S, "IPv6 gateway of the default bridge's containers"),
    Option("default-ipc-mode", "default-ipc-mode", _S, "IPC mode of containers (shareable|private)"),
    Option("default-network-opts", "default-network-opt", Kind.NESTED, "Default options of new networks"),
    Option("default-runtime", "default-runtime", _S, "OCI runtime of containers"),
    Option("default-shm-size", "default-shm-size", Kind.BYTES, "Size of /dev/shm in containers"),
    Option("default-stop-timeout", "default-stop-timeout", _I, "Seconds between stop signal and kill"),
    Option("default-ulimits", "default-ulimit", Kind.ULIMIT, "Resource limits of containers"),
    Option("dns", "dns", _L, "DNS server of containers"),
    Option("dns-opts", "dns-opt", _L, "DNS options of containers"),
    Option("dns-search", "dns-search", _L, "DNS search domains of containers"),
    Option("exec-opts", "exec-opt", _L, "Runtime execution options"),
    Option("exec-root", "exec-root", _S, "Directory of what ends with the machine's uptime"),
    Option("experimental", "experimental", _B, "Enable experimental features"),
    Option("features", "feature", _M, "Enable or disable features"),
    Option("firewall-backend", "firewall-backend", _S, "Firewall of bridge networks (nftables)"),
    Option("fixed-cidr", "fixed-cidr", _S, "IPv4 range of container addresses on the default bridge"),
    Option("fixed-cidr-v6", "fixed-cidr-v6", _S, "IPv6 range of container addresses on the default bridge"),
    Option("group", "group", _S, "Group that may use the unix socket", "G"),
    Option("hosts", "host", _L, "Socket to listen on", "H"),
    Option("host-ca", "host-ca", _B, "Lend the host's certificate authorities to build steps"),
    Option("host-gateway-ips", "host-gateway-ip", _L, "Address that host-gateway means in --add-host"),
    Option("host-gateway-ip", "", _S, "Former name of host-gateway-ips"),
    Option("icc", "icc", _B, "Let containers on the default bridge reach each other"),
    Option("init", "init", _B, "Run an init in containers"),
    Option("init-path", "init-path", _S, "Path of the init program"),
    Option("insecure-registries", "insecure-registry", _L, "Registries that may be used without TLS"),
    Option("ip", "ip", _S, "Host address of published ports"),
    Option("ip6tables", "ip6tables", _B, "Make IPv6 firewall rules"),
    Option("ip-forward", "ip-forward", _B, "Enable forwarding in the kernel"),
    Option("ip-forward-no-drop", "ip-forward-no-drop", _B, "Leave the forward policy alone when enabling forwarding"),
    Option("ip-masq", "ip-masq", _B, "Masquerade for the default bridge"),
    Option("iptables", "iptables", _B, "Make IPv4 firewall rules"),
    Option("ipv6", "ipv6", _B, "IPv6 on the default bridge"),
    Option("labels", "label", _L, "Label of this daemon (key=value)"),
    Option("live-restore", "live-restore", _B, "Leave containers running when the daemon stops"),
    Option("log-driver", "log-driver", _S, "Log driver of containers"),
    Option("log-format", "log-format", _S, "Format of the daemon's log (text|json)"),
    Option("log-level", "log-level", _S, "Level of the daemon's log (debug|info|warn|error|fatal)", "l"),
    Option("log-opts", "log-opt", _M, "Log driver options of containers"),
    Option("max-concurrent-downloads", "max-concurrent-downloads", _I, "Layers that one pull fetches at once"),
    Option("max-concurrent-uploads", "max-concurrent-uploads", _I, "Layers that one push sends at once"),
    Option("max-download-attempts", "max-download-attempts", _I, "Attempts for each layer"),
    Option("metrics-addr", "metrics-addr", _S, "Address of the metrics API"),
    Option("min-api-version", "", _S, "Oldest API version to accept"),
    Option("mtu", "mtu", _I, "MTU of the default bridge"),
    Option("network-control-plane-mtu", "network-control-plane-mtu", _I, "MTU of the cluster's control plane"),
    Option("network-diagnostic-port", "network-diagnostic-port", _I, "Port of the network diagnostic server"),
    Option("no-new-privileges", "no-new-privileges", _B, "Set no-new-privileges on containers"),
    Option("node-generic-resources", "node-generic-resource", _L, "Generic resources of a cluster node"),
    Option("nri-opts", "nri-opts", _M, "Node resource interface options"),
    Option("pidfile", "pidfile", _S, "Path of the PID file", "p"),
    Option("proxies.http-proxy", "http-proxy", _S, "Proxy of outgoing HTTP requests"),
    Option("proxies.https-proxy", "https-proxy", _S, "Proxy of outgoing HTTPS requests"),
    Option("proxies.no-proxy", "no-proxy", _S, "Hosts that are reached without proxy"),
    Option("publish-policy", "publish-policy", _S, "Who reaches published ports: open"),
    Option("raw-logs", "raw-logs", _B, "Log without colours"),
    Option("registry-mirrors", "registry-mirror", _L, "Mirror of Docker Hub"),
    Option("registries", "", _M, "Mirrors and addresses by registry"),
    Option("resolv-conf", "", _S, "The resolv.conf that containers' files are made from"),
    Option("rootless", "rootless", _B, "Rootless mode"),
    Option("seccomp-profile", "seccomp-profile", _S, "System call filter: builtin, unconfined or a file"),
    Option("selinux-enabled", "selinux-enabled", _B, "SELinux labels"),
    Option("shutdown-timeout", "shutdown-timeout", _I, "Seconds that a stop of the daemon may take"),
    Option("storage-driver", "storage-driver", _S, "Storage driver (overlay2)", "s"),
    Option("storage-opts", "storage-opt", _L, "Storage driver options"),
    Option("swarm-default-advertise-addr", "swarm-default-advertise-addr", _S, "Default address of a cluster node"),
    Option("swarm-raft-election-tick", "", _I, "Ticks before an election"),
    Option("swarm-raft-heartbeat-tick", "", _I, "Ticks between heartbeats"),
    Option("tls", "tls", _B, "Use TLS on tcp sockets"),
    Option("tlscacert", "tlscacert", _S, "Certificate authority of the clients"),
    Option("tlscert", "tlscert", _S, "Certificate of the daemon"),
    Option("tlskey", "tlskey", _S, "Key of the daemon"),
    Option("tlsverify", "tlsverify", _B, "Use TLS and accept only clients with a certificate"),
    Option("userland-proxy", "userland-proxy", _B, "A proxy process for published ports on loopback"),
    Option("userland-proxy-path", "userland-proxy-path", _S, "Path of the proxy program"),
    Option("userns-remap", "userns-remap", _S, "User namespace of all containers"),
    Option("builder", "", _M, "Settings of the builder"),
    Option("default-init", "", _S, "Former name of init-path"),
)

# Set to anything but their default, these would promise what the daemon does not do.
REFUSED: dict[str, str] = {
    "allow-direct-routing": "container addresses are reached from this host alone",
    "authorization-plugins": "authorization plugins are not supported",
    "bridge-accept-fwmark": "it is not supported",
    "cpu-rt-period": "real-time scheduling of the parent cgroup is not supported",
    "cpu-rt-runtime": "real-time scheduling of the parent cgroup is not supported",
    "cri-containerd": "Gantry does not run containerd",
    "default-init": "the init program is looked up",
    "default-network-opts": "options are given to each network",
    "init-path": "the init program is looked up",
    "metrics-addr": "the metrics API is not supported",
    "min-api-version": "all versions from 1.24 on are always served",
    "node-generic-resources": "generic resources are not supported",
    "nri-opts": "the node resource interface is not supported",
    "resolv-conf": "the host's own resolv.conf is used",
    "rootless": "the daemon needs root",
    "selinux-enabled": "SELinux labels are not supported",
    "storage-opts": "the storage driver has no options",
}

# Accepted for the sake of existing files, with a warning: doing without changes nothing that is promised.
WITHOUT_EFFECT: dict[str, str] = {
    "builder": "the build cache has no limits yet",
    "containerd": "Gantry does not use containerd",
    "containerd-namespace": "Gantry does not use containerd",
    "containerd-plugin-namespace": "Gantry does not use containerd",
    "experimental": "there are no experimental features",
    "features": "there are no optional features",
    "ip-forward-no-drop": "the forward policy is never changed",
    "network-control-plane-mtu": "there is no cluster",
    "network-diagnostic-port": "there is no diagnostic server",
    "raw-logs": "the log never has colours",
    "swarm-default-advertise-addr": "there is no cluster",
    "swarm-raft-election-tick": "there is no cluster",
    "swarm-raft-heartbeat-tick": "there is no cluster",
    "userland-proxy-path": "published ports need no proxy program",
}

BY_FLAG: dict[str, Option] = {option.flag: option for option in OPTIONS if option.flag}
BY_SHORT: dict[str, Option] = {option.short: option for option in OPTIONS if option.short}
BY_KEY: dict[str, Option] = {option.key: option for option in OPTIONS}

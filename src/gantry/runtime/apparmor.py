"""AppArmor: the profile that every container gets where the kernel confines by profiles (apparmor.d(5)).

A container that names a profile gets that one, a privileged one and `apparmor=unconfined` get none.
"""

from pathlib import Path

from gantry.linux.process import find_program, run

DEFAULT = "gantry-default"
UNCONFINED = "unconfined"
_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_LOADED = Path("/sys/kernel/security/apparmor/profiles")

# Everything that the container's other walls allow, but: no mounts, no writes to the kernel's own switches (of
# /proc/sys a container has the parts of its IPC and network namespaces), no tracing of what other profiles confine.
_PROFILE = f"""
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  capability,
  file,
  network,
  umount,
  deny mount,

  signal (receive) peer={UNCONFINED},
  signal (send, receive) peer={DEFAULT},
  ptrace (read, trace, readby, tracedby) peer={DEFAULT},

  deny /proc/{{acpi,asound,bus,driver,fs,irq,scsi,tty}}/** w,
  deny /proc/{{kcore,kmem,mem,sysrq-trigger,timer_list}} rwklx,
  deny /proc/sys/{{abi,crypto,debug,dev,fs,sunrpc,user,vm}}/** w,
  deny /proc/sys/kernel/{{[a-lnop-rt-z]*,m[^s]*,s[^eh]*}}{{,/**}} w,

  deny /sys/{{block,bus,class,dev,devices,hypervisor,kernel,module,power}}/** wklx,
  deny /sys/fs/{{bpf,btrfs,ext4,f2fs,fuse,pstore,resctrl,selinux,xfs}}/** wklx,
  deny /sys/{{firmware,kernel/security,devices/virtual/powercap}}/** rwklx,
}}
"""


def enabled() -> bool:
    """Whether the kernel confines processes by profiles."""
    try:
        return _ENABLED.read_text("ascii").strip() == "Y"
    except OSError:
        return False


def profile(asked: str, default: str | None, *, privileged: bool) -> str:
    """The profile of a container that asks for `asked` ("" for none); "" where the kernel does not confine.

    `default` is what `HostFacts.apparmor` says. A privileged container is unconfined unless it asks otherwise.
    """
    if default is None:
        return ""
    return asked or (UNCONFINED if privileged else default)


def load_default() -> str:
    """Load the default profile where it is not loaded yet (blocking); its name, or "" where that cannot be done."""
    if not enabled():
        return ""
    if _is_loaded():
        return DEFAULT
    parser = find_program("apparmor_parser")
    if not parser:
        return ""
    done = run([parser, "--skip-cache", "--replace"], data=_PROFILE.encode(), timeout=30)
    return DEFAULT if done.code == 0 and _is_loaded() else ""


def _is_loaded() -> bool:
    try:
        return any(line.startswith(f"{DEFAULT} ") for line in _LOADED.read_text("utf-8").splitlines())
    except OSError:
        return False

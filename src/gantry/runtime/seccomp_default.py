"""The default system call filter, as data: an allow list over a default of EPERM (Docker's built-in profile).

`gantry.runtime.seccomp` turns it into what a runtime reads. A rule's condition is on the container's
capabilities, the machine's architecture (Go's names) or the kernel's version.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """`calls` is a list in one string. `argument` is (index, operator, value, second value).

    `capabilities` must all be there, `without` none of them; `architectures` are alternatives.
    `errno` 0 allows; any other number is returned to the caller.
    """

    calls: str
    argument: tuple[int, str, int, int] | None = None
    capabilities: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    not_architectures: tuple[str, ...] = ()
    min_kernel: str = ""
    errno: int = 0


# Architecture (Go's name) -> the kernel interfaces that a process of it may use, the native one first.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "amd64": ("X86_64", "X86", "X32"),
    "arm64": ("AARCH64", "ARM"),
    "mips64": ("MIPS64", "MIPS", "MIPS64N32"),
    "mips64n32": ("MIPS64N32", "MIPS", "MIPS64"),
    "mips64le": ("MIPSEL64", "MIPSEL", "MIPSEL64N32"),
    "mipsel64n32": ("MIPSEL64N32", "MIPSEL", "MIPSEL64"),
    "s390x": ("S390X", "S390"),
    "riscv64": ("RISCV64",),
    "loong64": ("LOONGARCH64",),
}

ALWAYS = """
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list
    get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set
    ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link
    linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe
    pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
    process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
    recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn
    socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat
    uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""

RULES: tuple[Rule, ...] = (
    Rule("process_vm_readv process_vm_writev ptrace", min_kernel="4.8"),
    Rule("socket", argument=(0, "LT", 38, 0)),
    Rule("socket", argument=(0, "EQ", 39, 0)),
    Rule("socket", argument=(0, "GT", 40, 0)),
    Rule("personality", argument=(0, "EQ", 0, 0)),
    Rule("personality", argument=(0, "EQ", 8, 0)),
    Rule("personality", argument=(0, "EQ", 131072, 0)),
    Rule("personality", argument=(0, "EQ", 131080, 0)),
    Rule("personality", argument=(0, "EQ", 4294967295, 0)),
    Rule("swapcontext sync_file_range2", architectures=("ppc64le",)),
    Rule(
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
        architectures=("arm", "arm64"),
    ),
    Rule("arch_prctl", architectures=("amd64", "x32")),
    Rule("modify_ldt", architectures=("amd64", "x32", "x86")),
    Rule("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr", architectures=("s390", "s390x")),
    Rule("riscv_flush_icache", architectures=("riscv64",)),
    Rule("open_by_handle_at", capabilities=("CAP_DAC_READ_SEARCH",)),
    Rule(
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
        "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl "
        "quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
        capabilities=("CAP_SYS_ADMIN",),
    ),
    Rule(
        "clone",
        argument=(0, "MASKED_EQ", 2114060288, 0),
        without=("CAP_SYS_ADMIN",),
        not_architectures=("s390", "s390x"),
    ),
    Rule(
        "clone", argument=(1, "MASKED_EQ", 2114060288, 0), without=("CAP_SYS_ADMIN",), architectures=("s390", "s390x")
    ),
    Rule("clone3", without=("CAP_SYS_ADMIN",), errno=38),
    Rule("reboot", capabilities=("CAP_SYS_BOOT",)),
    Rule("chroot", capabilities=("CAP_SYS_CHROOT",)),
    Rule("delete_module finit_module init_module", capabilities=("CAP_SYS_MODULE",)),
    Rule("acct", capabilities=("CAP_SYS_PACCT",)),
    Rule(
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace", capabilities=("CAP_SYS_PTRACE",)
    ),
    Rule("ioperm iopl", capabilities=("CAP_SYS_RAWIO",)),
    Rule("clock_settime clock_settime64 settimeofday stime", capabilities=("CAP_SYS_TIME",)),
    Rule("vhangup", capabilities=("CAP_SYS_TTY_CONFIG",)),
    Rule("get_mempolicy mbind set_mempolicy set_mempolicy_home_node", capabilities=("CAP_SYS_NICE",)),
    Rule("syslog", capabilities=("CAP_SYSLOG",)),
    Rule("bpf", capabilities=("CAP_BPF",)),
    Rule("perf_event_open", capabilities=("CAP_PERFMON",)),
)

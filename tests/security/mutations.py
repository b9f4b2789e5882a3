# ruff: noqa: E501 (a table)
"""The table of protections inside the jail, as edits of the code and the policies that are mounted into it."""

from __future__ import annotations

from tests.security.mutation import Edit, Mutation

_INSTALL = Edit("inside/child.py", "        self._seccomp.install()\n", "        pass\n")
_LOOSE_POLICY = Edit("deploy/jail.policy", "USE jail DEFAULT ERRNO(38)", "DEFAULT ALLOW")
_LOOSE = (_LOOSE_POLICY, Edit("inside/zygote.py", "    _require_filter()\n"))

NO_CALL_FILTER = Mutation("the filter of each call", (_INSTALL,))
NO_JAIL_FILTER = Mutation("the filter of the jail", _LOOSE)
LOOSE_POLICY = Mutation("the policy of the jail", (_LOOSE_POLICY,))
NO_FILTERS = Mutation("both system call filters", (_INSTALL, *_LOOSE))
_ANY_FAMILY = Edit("inside/seccomp.py", "_UNIX_ONLY = Check(((Compare(0, (_AF_UNIX,)),),), errno.EAFNOSUPPORT)",
                   "_UNIX_ONLY = Check(((Compare(0, (0,), mask=0),),), errno.EAFNOSUPPORT)")  # fmt: skip
_ANY_KIND = Edit("inside/seccomp.py", "Compare(1, (1, 2), mask=0xF), Compare(2, (0, 6, 17))", "")
SOCKETS_OF_ALL_FAMILIES = Mutation("the check of socket families", (_ANY_FAMILY, *_LOOSE))
_ANY_OPTION = Edit("inside/seccomp.py", "_OPTIONS_OF_UNIX = Check((_SOCKET_OPTIONS,), errno.ENOPROTOOPT)",
                   "_OPTIONS_OF_UNIX = Check(((Compare(0, (0,), mask=0),),), errno.ENOPROTOOPT)")  # fmt: skip
OPTIONS_OF_ALL_KINDS = Mutation("the check of socket options", (_ANY_OPTION,))
OPTIONS_OF_ALL_KINDS_WITH_LOOPBACK = Mutation("the check of socket options for loopback", (
    Edit("inside/seccomp.py", ', "option_of_socket": _OPTIONS_OF_UNIX_AND_LOOPBACK}',
         ', "option_of_socket": Check(((Compare(0, (0,), mask=0),),), errno.ENOPROTOOPT)}'),))  # fmt: skip
FILTERS_ON_SOCKETS = Mutation("the check of socket options and the policy behind it", (_ANY_OPTION, *_LOOSE))
LOOPBACK_WITHOUT_CHECKS = Mutation("the check of socket types", (_ANY_KIND, *_LOOSE))

_KEEP_UID = Edit("inside/child.py", "            (libc.setresuid, (slot.uid, slot.uid, slot.uid)),\n")
_KEEP_BOUNDING_SET = Edit("inside/zygote.py", "    linux.forbid_capabilities_to_children()\n")
KEEPS_ROOT = Mutation("the change of user id", (_KEEP_UID,))
KEEPS_BOUNDING_SET = Mutation("the empty bounding set", (_KEEP_BOUNDING_SET,))
KEEPS_ROOT_AND_CAPABILITIES = Mutation(
    "the change of user id and the dropped capabilities", (_KEEP_UID, _KEEP_BOUNDING_SET)
)
# One layer alone, where it refuses something by itself.
ONLY_THE_CALL_FILTER = Mutation("all layers but the filter of each call", (*_LOOSE, _KEEP_UID, _KEEP_BOUNDING_SET))
ONLY_THE_JAIL_FILTER = Mutation("all layers but the filter of the jail", (_INSTALL, _KEEP_UID, _KEEP_BOUNDING_SET))
ONLY_THE_LOST_RIGHTS = Mutation("all layers but the dropped user id and capabilities", (_INSTALL, *_LOOSE))


JAIL_INHERITS_ENVIRONMENT = Mutation("the empty environment of the jail", (
    Edit("deploy/jail.cfg", "keep_env: false", "keep_env: true"),))  # fmt: skip
DUMPABLE_ZYGOTE_AND_ONE_USER = Mutation("the protected memory of zygote and init", (
    Edit("inside/zygote.py", "    linux.set_dumpable(False)\n"), _KEEP_UID, _INSTALL))  # fmt: skip
KEEPS_DESCRIPTORS = Mutation("the closing of descriptors", (
    Edit("inside/child.py", "(libc.close_range, (3, 0xFFFFFFFF, 0)),", "(libc.close_range, (3, 3, 0)),"),))  # fmt: skip
MODULES_STAY = Mutation("the removal of our modules", (
    Edit("inside/zygote.py", "        del sys.modules[name]  #", "        pass  #"),))  # fmt: skip
PROC_OF_THE_JAIL = Mutation("the slot's own /proc", (
    Edit("inside/init.py", '    linux.mount("proc", "/proc", "proc", _QUIET | linux.MS_NOEXEC, "hidepid=1")\n'),
    Edit("inside/init.py", '        return os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)', "        return -1"),
))  # fmt: skip
INIT_IS_TOLD_OF = Mutation("the hidden files of the slot's init", (
    Edit("inside/init.py", '_QUIET | linux.MS_NOEXEC, "hidepid=1")', "_QUIET | linux.MS_NOEXEC)"),))  # fmt: skip
CLOCK_OF_INIT = Mutation("the check of clocks", (
    Edit("inside/seccomp.py", "mask=0xFFFFFFF8, is_in=False", "mask=0, is_in=False"),))  # fmt: skip
PROC_TELLS = Mutation("the hidden files of /proc", (Edit("inside/init.py", "    _hide_the_machine()\n"),))
CODE_FOLDER_STAYS = Mutation("the hidden code folder", (
    Edit("inside/init.py", "    linux.unmount(CODE_FOLDER, linux.MNT_DETACH)\n"),))  # fmt: skip


ZYGOTE_READS_PAYLOADS = Mutation("the unread payload", (
    Edit("inside/zygote.py", "        frame = frames.unpack(packet)\n",
         "        frame = frames.unpack(packet)\n"
         "        self.seen = getattr(self, 'seen', []) + [os.pread(fd, 1 << 20, 0) for fd in descriptors[:1] if frame.kind == 2]\n"),
))  # fmt: skip
_FRESH_FILES = Edit("inside/init.py", "    if not keep_files:\n", "    if False:\n")
_OWN_IPC = Edit("inside/child.py", "            (libc.unshare, (linux.CLONE_NEWIPC,)),\n")
_RESET_PIDS = Edit("inside/init.py", '                os.pwrite(last_pid, b"1", 0)\n', "                pass\n")
DEVICES_KEEP_TIMES = Mutation("the read-only devices", (
    Edit("deploy/jail.cfg", 'dst: "/dev/null" is_bind: true }', 'dst: "/dev/null" is_bind: true rw: true }'),))  # fmt: skip
SETTINGS_KEEP_TIMES = Mutation("the read-only settings", (Edit("inside/init.py", "    _forbid_settings()\n"),))
WHAT_CLEANS_A_SLOT = [
    Mutation("the fresh files of each call", (_FRESH_FILES,)),
    Mutation("the IPC namespace of each call", (_OWN_IPC,)),
    Mutation("the pids that begin anew", (_RESET_PIDS,)),
]
NETWORK_OF_THE_SLOT = Mutation("the network namespace of a loopback call", (
    Edit("inside/child.py", "    linux.unshare(linux.CLONE_NEWNET)\n"),
))  # fmt: skip
SOCKETS_IN_FLIGHT = Mutation("the wait for sockets in flight", (
    Edit("inside/init.py", "            if doubt is Doubt.NONE and not _are_gone(sockets):\n", "            if False:\n"),
))  # fmt: skip
WHAT_CLEANS_A_SLOT.append(SOCKETS_IN_FLIGHT)

NO_CGROUP = Mutation("the cgroup of each call", (
    Edit("inside/child.py", "for fd in slot.cgroup_fds),", "for fd in []),"),
    Edit("inside/slot.py", "                    os.write(fd, b\"0\")\n", "                    pass\n"),
))  # fmt: skip
NETWORK_OF_THE_JAIL = Mutation("the network namespace of each slot", (
    Edit("inside/init.py", " | linux.CLONE_NEWIPC | linux.CLONE_NEWNET)", " | linux.CLONE_NEWIPC)"),
    Edit("inside/child.py", "_SLOT_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWNET",
         "_SLOT_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWUTS"),
))  # fmt: skip


def _failing(step: str, text: str) -> Mutation:
    """A step of a child's set-up that the kernel refuses: a C call that does nothing but fail in its place."""
    return Mutation(f"a working {step}", (Edit("inside/child.py", text, "(libc.close, (-1,)),"),))


_FAILING_SECCOMP = Edit("inside/seccomp.py", "] = _libc.syscall\n", "] = _libc.close\n")
FAILING_STEPS = [
    _failing("cgroup", "(libc.setns, (slot.cgroup_namespace, linux.CLONE_NEWCGROUP)),"),
    _failing("setns", "(libc.setns, (slot.init_fd, _SLOT_NAMESPACES)),"),
    _failing("setresuid", "(libc.setresuid, (slot.uid, slot.uid, slot.uid)),"),
    _failing("close_range", "(libc.close_range, (3, 0xFFFFFFFF, 0)),"),
    Mutation("a working seccomp", (_FAILING_SECCOMP,)),
]


PROGRESS_PAGE_STAYS = Mutation("the unmapped page of progress", (
    Edit("inside/child.py", "        self._progress.unmap()\n"),))  # fmt: skip


NO_DISK_LIMIT = Mutation("the size of the files", (
    Edit("inside/init.py", 'f"size={disk_mb}m,nr_inodes={_FILES_LIMIT},mode=1777"', '"mode=1777"'),))  # fmt: skip
NO_FILE_SIZE_LIMIT = Mutation("the limit of a file's size", (
    Edit("inside/child.py", "        linux.do(((self._limit, (0, resource.RLIMIT_FSIZE, _limits(file_size, file_size), None)),))\n"),))  # fmt: skip
NO_SHARED_LIMITS = Mutation("the bounds on what users share", (
    Edit("inside/zygote.py", "    _limit_what_users_share()\n"),))  # fmt: skip

NO_SESSION = Mutation("the session of the zygote", (Edit("inside/zygote.py", "    _be_of_a_session()\n"),))

RANDOM_STATE_IS_SHARED = Mutation("the new random state of each call", (
    Edit("inside/interpreter.py", "    randomness.renew(seed)\n"),))  # fmt: skip
HASH_SEED_OF_EACH_ZYGOTE = Mutation("the fixed hash seed", (
    Edit("deploy/jail.cfg", "PYTHONHASHSEED=0", "PYTHONHASHSEED=random"),))  # fmt: skip
NAMES_OF_GROUPS = Mutation("the cgroup namespace", (
    Edit("inside/child.py", "            (libc.setns, (slot.cgroup_namespace, linux.CLONE_NEWCGROUP)),\n"),))  # fmt: skip
FILES_STAY = Mutation("the fresh files of each call", (_FRESH_FILES,))
IPC_OF_THE_JAIL = Mutation("the IPC namespace of each call", (_OWN_IPC,))
NETWORK_OF_THE_MACHINE = Mutation("the network namespaces", (
    Edit("deploy/jail.cfg", "clone_newnet: true", "clone_newnet: false"),
    *NETWORK_OF_THE_JAIL.edits,
    Edit("inside/child.py", "            _make_loopback()\n", "            pass\n"),
))  # fmt: skip
UNREAPED_ORPHANS = Mutation("the reaping of orphans", (
    Edit("inside/init.py", "    signal.signal(signal.SIGCHLD, signal.SIG_IGN)"),))  # fmt: skip
PROGRAM_IS_PID_1 = Mutation("the init that is pid 1", (
    Edit("inside/slot.py", "        linux.setns(self.init_fd, linux.CLONE_NEWPID)\n        try:",
         "        linux.unshare(linux.CLONE_NEWPID)\n        try:"),))  # fmt: skip
LOST_SLOTS_STAY = Mutation("the replacement of a slot", (
    Edit("inside/zygote.py", "                self._replace(slot)\n",
         "                pass\n"),))  # fmt: skip
ZYGOTE_IN_THE_GROUP = Mutation("the zygote's place outside of the call's group, and the call's as the first victims", (
    Edit("inside/slot.py", "        self.cgroup_fds = cgroup_fds\n",
         "        self.cgroup_fds = cgroup_fds\n        for fd in cgroup_fds: os.write(fd, b'0')\n"),
    Edit("inside/zygote.py", "    linux.set_dumpable(False)\n",
         "    open('/proc/self/oom_score_adj', 'w').write('1000')\n    linux.set_dumpable(False)\n"),
    Edit("inside/child.py", '(libc.write, (3, b"1000", 4))', '(libc.write, (3, b"0", 1))'),
))  # fmt: skip
FETCH_FOLLOWS_LINKS = Mutation("the refusal of links while files are fetched", (
    Edit("inside/fetch.py", "os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC", "os.O_DIRECTORY | os.O_CLOEXEC"),
    Edit("inside/fetch.py", "os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC", "os.O_NOCTTY | os.O_CLOEXEC"),
))  # fmt: skip
CORES = Mutation("the limit of core files", (
    Edit("inside/zygote.py", "    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"),))  # fmt: skip
CLONE3_IS_REFUSED = Mutation("ENOSYS for clone3, to which libraries have another way", (
    Edit("inside/syscalls.tbl", "435     435  clone3                  ENOSYS", "435     435  clone3                  EPERM"),
))  # fmt: skip
NO_LOOPBACK = Mutation("the filter for loopback", (
    Edit("inside/seccomp.py", "return CHECKS | _WITH_LOOPBACK if loopback else CHECKS", "return CHECKS"),
))  # fmt: skip


def _in_the_zygote(name: str, statement: str) -> Mutation:
    """Something that a preloaded module may do, and that no fork may inherit."""
    return Mutation(
        name, (Edit("inside/runner.py", "    callstack.prepare()\n", f"    callstack.prepare()\n    {statement}\n"),)
    )


def _in_the_policy(name: str, old: str, new: str) -> Mutation:
    return Mutation(name, (Edit("deploy/jail.cfg", old, new),))


EXTRA_THREAD = _in_the_zygote("a single thread in the zygote",
    "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()")  # fmt: skip
EXTRA_DESCRIPTOR = _in_the_zygote("no descriptor but its own in the zygote", "os.open('/', os.O_RDONLY)")
NO_USER_NAMESPACE = _in_the_policy("the user namespace", "clone_newuser: true", "clone_newuser: false")
NO_PID_NAMESPACE = _in_the_policy("the pid namespace of the jail", "clone_newpid: true", "clone_newpid: false")
MASKED_PROC = _in_the_policy("a whole /proc in the jail", 'mount { dst: "/tmp" fs',
    'mount { dst: "/proc/sys" fstype: "tmpfs" rw: true }\nmount { dst: "/tmp" fs')  # fmt: skip
DUMPABLE_ZYGOTE = Mutation("the protected memory of the zygote alone", (
    Edit("inside/zygote.py", "    linux.set_dumpable(False)\n"),))  # fmt: skip

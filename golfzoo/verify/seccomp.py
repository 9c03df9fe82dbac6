"""The system calls that a stranger's code is refused, as a classic BPF program for seccomp(2).

A list of refusals and not of permissions, because torch and the drivers below it need most of the rest: no sockets, no
other process's memory, no mounts and namespaces, no kernel interfaces of administrators. Numbers: asm/unistd.h.
"""

import errno
import struct

# name, x86_64, aarch64
_REFUSED = """
ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440, process_mrelease 448 448,
kcmp 312 272, pidfd_getfd 438 438, move_pages 279 239, migrate_pages 256 238,
mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, setns 308 268, unshare 272 97, open_tree 428 428,
move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442,
swapon 167 224, swapoff 168 225, quotactl 179 60, quotactl_fd 443 443, fanotify_init 300 262,
name_to_handle_at 303 264, open_by_handle_at 304 265,
bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, keyctl 250 219, add_key 248 217, request_key 249 218,
init_module 175 105, finit_module 313 273, delete_module 176 106, kexec_load 246 104, kexec_file_load 320 294,
reboot 169 142, acct 163 89, syslog 103 116, vhangup 153 58, iopl 172 -, ioperm 173 -, modify_ldt 154 -,
settimeofday 164 170, clock_settime 227 112, clock_adjtime 305 266, adjtimex 159 171, sethostname 170 161,
setdomainname 171 162,
socket 41 198, connect 42 203, bind 49 200, listen 50 201, accept 43 202, accept4 288 242,
shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190, semop 65 193, semctl 66 191, semtimedop 220 192,
msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, mq_open 240 180, mq_unlink 241 181,
setpriority 141 140, ioprio_set 251 30, sched_setscheduler 144 119, sched_setparam 142 118, sched_setattr 314 274,
execveat 322 281, memfd_create 319 279, memfd_secret 447 447
"""
# Signals to other processes: refused where no other layer keeps those out of reach.
_SIGNALS = """
kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
pidfd_send_signal 424 424
"""
# What Landlock lets through to every file that has a name: refused where no root of its own hides them.
_CHANGING_ATTRIBUTES = """
chmod 90 -, fchmod 91 52, fchmodat 268 53, chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54, setxattr 188 5,
lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, utime 132 -,
utimes 235 -, futimesat 261 -, utimensat 280 88
"""
# Answered as by a kernel that does not have them: libraries then do without.
_ABSENT = "io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, clone3 435 435"
_FIRST_UNKNOWN = 452  # what later kernels bring, and on x86_64 the calls of the x32 ABI

# name, x86_64, aarch64, argument, mask, values, and whether the masked argument must be one of them or must not
_BY_ARGUMENT = (
    ("clone", 56, 220, 0, 0x7E020000, (0,), True),  # CLONE_NEW*: namespaces
    ("socketpair", 53, 199, 0, 0xFFFFFFFF, (1,), True),  # AF_UNIX
    ("socketpair", 53, 199, 1, 0xF, (1, 5), True),  # streams: a datagram socket may send to any address
    ("prlimit64", 302, 261, 0, 0xFFFFFFFF, (0,), True),  # of itself
    ("sched_setaffinity", 203, 122, 0, 0xFFFFFFFF, (0,), True),
    ("fcntl", 72, 25, 1, 0xFFFFFFFF, (8, 15), False),  # F_SETOWN, F_SETOWN_EX: signals to others
    (
        "ioctl",
        16,
        29,
        1,
        0xFFFFFFFF,
        (0x8901, 0x8902, 0x5412, 0x541C),
        False,
    ),  # FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX
)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _REFUSE, _ABSENCE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000


def _numbers(table: str, column: int) -> list[int]:
    rows = [row.split() for row in table.replace("\n", " ").split(",")]
    return [int(row[1 + column]) for row in rows if row[1 + column] != "-"]


def filter_program(machine: str, others_in_reach: bool, files_in_reach: bool) -> bytes:
    """The program, 8 bytes an instruction; none for a machine without a table. Where no other layer keeps signals from
    other processes, or changed attributes from files outside, they are refused here, and within the sandbox too."""
    if machine not in _ARCHITECTURES:
        return b""
    column, architecture = _ARCHITECTURES[machine]
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    program += [(_AT_LEAST, 0, 1, _FIRST_UNKNOWN), (_RETURN, 0, 0, _ABSENCE)]
    refused = _numbers(_REFUSED, column) + _numbers(_SIGNALS, column) * others_in_reach
    refused += _numbers(_CHANGING_ATTRIBUTES, column) * files_in_reach
    for numbers, answer in ((_numbers(_ABSENT, column), _ABSENCE), (refused, _REFUSE)):
        for number in numbers:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]
    for _, *pair, argument, mask, values, wanted in _BY_ARGUMENT:
        body = [(_LOAD, 0, 0, 16 + 8 * argument), (_AND, 0, 0, mask)]
        for later, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
            body.append((_EQUAL, later + wanted, 0 if wanted or later else 1, value))
        body.append((_RETURN, 0, 0, _REFUSE))
        program += [(_EQUAL, 0, len(body) + 1, pair[column]), *body, (_LOAD, 0, 0, 0)]
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)

"""What the launcher asks of Landlock, the kernel's access control that needs no privileges.

It follows from the version of it that this kernel has: older ones know fewer rights, and what a ruleset does not name
stays allowed.
"""

import sys
from collections.abc import Collection
from typing import Any

from golfzoo.verify.launcher import LANDLOCK_CREATE, call

_EXECUTE, _WRITE, _READ, _READ_DIR, _REFER, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 13, 1 << 14, 1 << 15
_MAKE_DEVICES_AND_SOCKETS = 1 << 6 | 1 << 9 | 1 << 11
_RIGHTS = {1: (1 << 13) - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL}  # version -> the rights that it brought
_BIND_AND_CONNECT, _SOCKETS_AND_SIGNALS = 3, 3
_LAYERS = {"landlock files": 3, "landlock tcp": 4, "landlock scopes": 6}  # layer -> version that has all of it


def landlock_version() -> int:
    """0 where this kernel has none."""
    if sys.platform != "linux":
        return 0
    try:
        return call("syscall", LANDLOCK_CREATE, None, 0, 1)
    except OSError:
        return 0


def landlock(
    readable: list[str], devices: list[str], writable: str, version: int, without: Collection[str] = ()
) -> dict[str, Any]:
    """`attributes` of the ruleset (none: there is nothing to ask for), `rules` as path -> rights, and the `layers` with
    the reason why each would not hold, or ''."""
    kept = {name: needed for name, needed in _LAYERS.items() if name not in without}
    known = sum(rights for since, rights in _RIGHTS.items() if since <= version)
    handled = known if "landlock files" in kept else 0
    tcp = _BIND_AND_CONNECT if kept.get("landlock tcp", 99) <= version else 0
    scopes = _SOCKETS_AND_SIGNALS if kept.get("landlock scopes", 99) <= version else 0
    rules = dict.fromkeys(readable, _EXECUTE | _READ | _READ_DIR)
    rules |= dict.fromkeys(devices, _READ | _WRITE | _TRUNCATE | _IOCTL)
    rules[writable] = sum(_RIGHTS.values()) & ~(_EXECUTE | _MAKE_DEVICES_AND_SOCKETS)
    lacking = f"needs version {{}} of Landlock, this kernel has {version}" if version else "this kernel has no Landlock"
    reasons = {name: "" if needed <= version else lacking.format(needed) for name, needed in kept.items()}
    attributes = [handled, tcp, scopes] if version >= 6 else [handled, tcp] if version >= 4 else [handled]
    return {
        "attributes": attributes if any(attributes) else [],
        "rules": {path: rights & handled for path, rights in rules.items() if rights & handled},
        "layers": dict.fromkeys(_LAYERS, "left out on request") | reasons,
    }

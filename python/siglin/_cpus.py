"""How many CPUs this process may use: by its affinity, and by the quota of its cgroups."""

import math
import os
from collections.abc import Iterator


def usable_cpus(root: str = "/") -> int:
    """Return the number of CPUs that this process may keep busy, at least 1.

    A quota of one and a half CPUs counts as two: one thread would leave half a CPU
    unused. `root` is where to look for proc and the cgroups' files.
    """
    cpus = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min([cpus, *_quotas(root)])))


def _quotas(root: str) -> Iterator[float]:
    """Yield the CPU time per time that each cgroup around this process allows."""
    try:
        own = _text(root, "proc/self/cgroup")
        mounts = _text(root, "proc/self/mountinfo")
    except OSError:
        return
    # Lines "number:controllers:path"; version 2 has the number 0 and no controllers.
    groups: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)
    for line in mounts.splitlines():
        # "... <root> <mount point> <options> ... - <type> <source> <super options>"
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        version2 = kind == "cgroup2"
        if not version2 and (kind != "cgroup" or "cpu" not in options.split(",")):
            continue
        top, mount = before.split(" ")[3:5]
        path = groups.get("" if version2 else "cpu", "/")
        # In a container the mount may show the container's own group as its root.
        inside = path.removeprefix(top) if path.startswith(top) else "/"
        group = os.path.join(mount, inside.strip("/")).rstrip("/")
        while group.startswith(mount):
            quota = _quota(os.path.join(root, group.lstrip("/")))
            if quota is not None:
                yield quota
            group = group.rpartition("/")[0]


def _quota(group: str) -> float | None:
    """Return the quota of one cgroup; None if it has none, or is out of sight."""
    try:
        if os.path.exists(os.path.join(group, "cpu.max")):
            quota, period = _text(group, "cpu.max").split()
        else:
            quota = _text(group, "cpu.cfs_quota_us")
            period = _text(group, "cpu.cfs_period_us")
        used, whole = float(quota), float(period)
    except (OSError, ValueError):  # ValueError: "max", no limit
        return None
    return used / whole if used > 0 and whole > 0 else None


def _text(folder: str, name: str) -> str:
    """Return what a file holds."""
    with open(os.path.join(folder, name)) as file:
        return file.read()

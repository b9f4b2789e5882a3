#!/usr/bin/env python3
"""Turn the specification that podman made for a container into a bundle that runc can run on another kernel.

    bundle.py CONFIG ROOTFS FOLDER [NAME=VALUE ...]     writes FOLDER/config.json; the values go to the environment

Privileges, system call filter, mounts of the image's own, and the command stay word for word. What changes is what
belongs to the machine the container was made on: its files for names and shared memory, its networks, its cgroup.
"""

import json
import sys
from pathlib import Path

config, rootfs, folder, *environment = sys.argv[1:]
spec = json.loads(Path(config).read_text())

spec["root"]["path"] = rootfs
names = {value.partition("=")[0] for value in environment}
kept = [value for value in spec["process"]["env"] if value.partition("=")[0] not in names]
spec["process"]["env"] = [*kept, *environment]

mounts = []
for mount in spec["mounts"]:
    if mount["destination"] in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"):
        continue
    if mount["destination"] == "/dev/shm":
        mount = {**mount, "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]}
    mount["options"] = [option for option in mount["options"] if option != "tmpcopyup"]  # runc alone lacks it on v2
    mounts.append(mount)
spec["mounts"] = mounts

kinds = {namespace["type"] for namespace in spec["linux"]["namespaces"]} - {"network"}
spec["linux"]["namespaces"] = [{"type": kind} for kind in sorted(kinds | {"cgroup"})]
spec["linux"]["cgroupsPath"] = "/docker/worker"
spec.pop("hooks", None)
Path(folder).mkdir(parents=True, exist_ok=True)
Path(folder, "config.json").write_text(json.dumps(spec))

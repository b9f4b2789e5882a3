#!/bin/sh
# Process 1 of the guest that uml.sh boots: prepares what a service expects of a machine, runs $UML_JOB/command,
# reports its exit status on ttyS1 and powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
stty -F /dev/ttyS0 raw -echo
exec >/dev/ttyS0 2>&1

for folder in /tmp /run /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$folder"; done
for folder in "$UML_JOB" "$UML_FOLDER"; do  # what the empty folders have hidden
    [ -d "$folder" ] || { mkdir -p "$folder" && mount -t hostfs -o "$folder" none "$folder"; }
done

mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "+memory +pids +cpu" >/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up

hostname uml
sh "$UML_JOB/command" </dev/null
echo "$?" >/dev/ttyS1
sync
echo o >/proc/sysrq-trigger
sleep 10

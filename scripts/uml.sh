#!/bin/sh
# Run a command under a kernel with cgroup v2, on a host that has v1 only (or none): user-mode-linux.
#
#   scripts/uml.sh COMMAND [ARGUMENT...]
#
# Debian's user-mode-linux boots in about two seconds as an ordinary process. Inside, the host's files are the root,
# read-only; /tmp, /run and /var/tmp are empty and writable; cgroup v2 with memory, pids and cpu is at /sys/fs/cgroup;
# there is no network but loopback. The command runs as root in the current folder with this environment; its output
# and its exit status are those of this script. UML_MEMORY (2G) and UML_TIMEOUT_S (600) can be set.
#
# Times measured inside mean nothing: a page fault costs far more than on a real machine.
#
# Exit status 77: this kernel cannot run on this processor. Debian's (6.1) keeps 2,696 bytes of vector registers per
# process; processors with AMX have more, and its first process dies in put_fp_registers.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
package=user-mode-linux
cache=${SANDBOX_TEST_CACHE:-/var/cache/sandbox-service-tests}/uml

[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 64; }
[ "$(id -u)" = 0 ] || { echo "uml.sh: run as root (the guest's root must be able to read the host's files)" >&2; exit 69; }
[ "$(uname -m)" = x86_64 ] || { echo "uml.sh: $package exists for x86_64 only" >&2; exit 69; }
if grep -qw amx_tile /proc/cpuinfo; then
    echo "uml.sh: SKIPPED: user-mode-linux 6.1 cannot run on a processor with AMX; nothing was tried" >&2
    exit 77
fi

command -v ip >/dev/null || apt-get install -qy --no-install-recommends iproute2 >&2
if [ ! -x "$cache/usr/bin/linux.uml" ]; then
    mkdir -p "$cache"
    (cd "$cache" && { apt-get download -q "$package" || { apt-get update -q && apt-get download -q "$package"; }; }) >&2
    dpkg-deb -x "$cache"/"$package"_*.deb "$cache"
    rm "$cache"/"$package"_*.deb
fi

job=$(mktemp -d "${TMPDIR:-/tmp}/uml.XXXXXX")
trap 'rm -rf "$job"' EXIT
{
    export -p
    echo 'export TERM=dumb'  # a serial line; in the end a file
    printf 'cd %s\n' "'$(pwd | sed "s/'/'\\\\''/g")'"
    printf 'exec'
    for word in "$@"; do printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")"; done
    echo
} >"$job/command"

# ssl0 carries the command's output, ssl1 its status, con0 the kernel's messages.
timeout --foreground --kill-after=5 "${UML_TIMEOUT_S:-600}" "$cache/usr/bin/linux.uml" \
    mem="${UML_MEMORY:-2G}" umid="$(basename "$job")" root=/dev/root rootfstype=hostfs rootflags=/ ro \
    init="$here/uml-init.sh" UML_JOB="$job" UML_FOLDER="$(pwd)" \
    con=null con0=null,fd:2 ssl=null ssl0=null,fd:3 ssl1=null,fd:4 \
    3>&1 4>"$job/status" >"$job/console" 2>&1 </dev/null || true

status=$(tr -cd 0-9 <"$job/status")
if [ -z "$status" ]; then
    echo "uml.sh: the guest gave no exit status (killed after ${UML_TIMEOUT_S:-600} s, or its kernel failed):" >&2
    tail -n 20 "$job/console" >&2
    exit 70
fi
exit "$status"

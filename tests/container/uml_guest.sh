#!/bin/sh
# Inside the guest of scripts/uml.sh: start the whole service on cgroup v2, ask it for every status, stop it, look for
# what is left. The host's image is used as it is; state and sockets are in the guest's own /run.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
images=${SANDBOX_STATE_DIR:-/var/lib/sandbox-service}/images
export SANDBOX_STATE_DIR=/run/state SANDBOX_RUN_DIR=/run/sandbox-service SANDBOX_PROFILES=bare,numpy SANDBOX_SLOTS=2
mkdir -p "$SANDBOX_STATE_DIR" && ln -s "$images" "$SANDBOX_STATE_DIR/images"

"$root/.venv/bin/sandbox-service" serve --port 8000 &
service=$!
for _ in $(seq 120); do
    kill -0 "$service" || exit 1
    python3 -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:8000/readyz")' 2>/dev/null && break
    sleep 1
done
python3 "$root/tests/container/smoke.py" --url http://127.0.0.1:8000
groups=$(find /sys/fs/cgroup -path '*/sandbox-service/*' -type d | wc -l)
kill -TERM "$service"
wait "$service" || { echo "the service ended with $?"; exit 1; }
left=$(find /sys/fs/cgroup -path '*/sandbox-service/*' -type d)
echo "cgroup v2 on $(uname -r): $groups groups while it ran, left: ${left:-none}"
[ "$groups" -gt 0 ] && [ -z "$left" ]

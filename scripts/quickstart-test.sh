#!/usr/bin/env bash
# The README's quickstart, word for word: `make up` on a port of its own, the curl line, Ctrl-C, and nothing left.
set -euo pipefail
cd "$(dirname "$0")/.."
port=8765
log=$(mktemp)
up=
trap 'rm -f "$log"; [ -z "$up" ] || kill $up 2>/dev/null' EXIT

make up PORT=$port >"$log" 2>&1 &
up=$!
# What `make up` starts at last is the service itself; without it there is nothing to wait for.
for _ in $(seq 600); do
    grep -q "sandbox-service is ready" "$log" && break
    kill -0 $up 2>/dev/null || { cat "$log" >&2; echo "quickstart: make up ended" >&2; exit 1; }
    sleep 0.5
done
curl_line=$(grep -m 1 -o "^curl -s http://127.0.0.1:8000/v1/calls .*" README.md)
answer=$(eval "${curl_line/8000/$port}")
grep -q '"stdout":"42\\n"' <<<"$answer" || { echo "quickstart: $answer" >&2; exit 1; }
service=$(pgrep -P $up -f "sandbox-service serve" || echo $up)
kill -INT "$service"
wait $up || { up=; echo "quickstart: make up did not end well" >&2; exit 1; }
up=
if curl -s -o /dev/null "http://127.0.0.1:$port/healthz"; then
    echo "quickstart: it still answers" >&2
    exit 1
fi
echo "quickstart: ok"

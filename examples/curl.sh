#!/bin/sh
# Plain curl: a call, a batch, a batch as its Results finish, a ticket that is polled, cancelling by label.
#
#   sh examples/curl.sh http://127.0.0.1:8000       (KEY=... before it, where the service asks for a key)
set -eu
url=${1:-http://127.0.0.1:8000}
id=curl-$(date +%s)-$$ # ids of our own: to send a call again under its id never runs it twice

api() { # path, curl's options
    path=$1
    shift
    curl -sS --fail-with-body -w '\n' ${KEY:+-H "Authorization: Bearer $KEY"} \
        -H 'Content-Type: application/json' "$url$path" "$@"
}

echo '# a call'
api /v1/calls -d '{"code": "print(int(input()) * 7)", "stdin": "6", "limits": {"wall_s": 2}}'

echo '# a batch: all Results, in order'
api /v1/batches -d '{"calls": [{"code": "print(1)"}, {"code": "print(1 / 0)"}]}'

echo '# a streamed batch: each Result as it finishes (-N: shown at once), then a line that says so'
api /v1/batches -N -w '' -H 'Accept: application/x-ndjson' \
    -d '{"calls": [{"code": "import time; time.sleep(1); print(\"slow\")"}, {"code": "print(\"fast\")"}]}'

echo '# a ticket at once; 202 and the Ticket until it is done, then 200 and the Result'
api '/v1/calls?wait=0' -d '{"id": "'"$id"'", "code": "import time; time.sleep(2); print(\"done\")"}'
while answer=$(api "/v1/calls/$id?wait_s=1" -w ' %{http_code}') && [ "${answer##* }" = 202 ]; do # waits up to 1 s
    printf '%s\n' "$answer"
done
printf '%s\n' "$answer"
[ "${answer##* }" = 200 ]

echo '# many calls, cancelled by their label'
api '/v1/batches?wait=0' -d '{"id": "'"$id"'-batch", "calls": [
    {"code": "import time; time.sleep(50)", "limits": {"wall_s": 60}, "labels": {"run": "'"$id"'"}},
    {"code": "import time; time.sleep(50)", "limits": {"wall_s": 60}, "labels": {"run": "'"$id"'"}}]}'
api "/v1/calls?label=run:$id" -X DELETE
api "/v1/batches/$id-batch?wait_s=30"

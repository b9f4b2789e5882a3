# Debian 12 in the place of two images of a registry: it has this machine's Python 3.12 (or, where there is none, Debian's
# 3.11) where python:3.12-slim-bookworm has its own, and Debian's Redis under the names that the Valkey image uses.
# `scripts/image-test.sh` makes the folder and the tags.
FROM scratch
COPY . /
# pip brings certificates of its own; Debian's takes the machine's, which may be behind a proxy.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt

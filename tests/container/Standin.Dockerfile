# Debian 12 in the place of two images of a registry: it has Python 3.11 where python:3.11-slim-bookworm has it, and
# Debian's Redis under the names that the Valkey image uses. `scripts/image-test.sh` makes the folder and the tags.
FROM scratch
COPY . /

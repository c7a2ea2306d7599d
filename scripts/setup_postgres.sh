#!/bin/sh
# PostgreSQL's programs for the tests, which start a server of their own. Installs them when run as root on Debian or
# Ubuntu; otherwise says what to install, and the tests of conversations run on SQLite alone.
set -u

for program in /usr/lib/postgresql/*/bin/postgres; do
    [ -x "$program" ] && exit 0
done
command -v postgres >/dev/null && command -v initdb >/dev/null && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # the package would make and start a cluster of its own, which nobody here needs
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    apt-get update && apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold postgresql && exit 0
fi
echo "test: no PostgreSQL was found, so conversations are tested on SQLite alone. On Debian or Ubuntu:" \
    "sudo apt-get install postgresql" >&2

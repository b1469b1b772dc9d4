#!/usr/bin/env bash
# Make the base images that docker/Dockerfile and the compose files name, from a Debian mirror, for a
# host that reaches no image registry. An image that the engine has already is left as it is.
#
#   sudo docker/base-images.sh              # python:3.11-slim postgres:15 redis:7 caddy:2
#   sudo docker/base-images.sh python:3.11-slim
#
# Environment:
#   MIRROR   address of the mirror; default: the one that apt uses on this machine
#   NETWORK  network of the builds, `host` (default) or `default`: Docker's own
#   DOCKER   the client, `docker`
#
# Needs root (debootstrap) and 1 GB in ${TMPDIR:-/tmp}. The images take over this host's package
# sources, its proxy settings of apt, pip's settings and its certificate authorities. They are Debian 12's own packages
# (Python 3.11, PostgreSQL 15, Redis 7, Caddy 2) with the entry points that the compose files rely on.
set -euo pipefail

SUITE=bookworm
DEBIAN=pmae-debian:$SUITE
NETWORK=${NETWORK:-host}
DOCKER=${DOCKER:-docker}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/pmae-bases.XXXXXX")
trap 'rm -rf "$WORK"' EXIT

die() { echo "base-images.sh: $*" >&2; exit 1; }
have() { $DOCKER image inspect "$1" >/dev/null 2>&1; }

mirror() {
  [ -z "${MIRROR:-}" ] || { echo "$MIRROR"; return; }
  local found
  found=$(awk '/^URIs:/{print $2; exit} /^deb /{for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; exit}}' \
    /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true)
  [ -n "$found" ] || die "this machine's apt names no mirror; set MIRROR=http://..."
  echo "$found"
}

# Files of this host that apt and pip need behind a proxy or an inspecting gateway.
take_over_host() { # ROOT
  local root=$1 from
  mkdir -p "$root/etc/apt/apt.conf.d" "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates"
  { grep -lsiE 'proxy|check-(valid|date)' /etc/apt/apt.conf.d/* || true; } |
    xargs -r cp -t "$root/etc/apt/apt.conf.d/"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp -t "$root/usr/local/share/ca-certificates/" {} +
  for from in /etc/pip.conf "${HOME:-/root}/.config/pip/pip.conf" "${HOME:-/root}/.pip/pip.conf"; do
    if [ -f "$from" ]; then
      cp "$from" "$root/etc/pip.conf"
      break
    fi
  done
}

make_debian() {
  have "$DEBIAN" && return
  [ "$(id -u)" = 0 ] || die "debootstrap needs root"
  command -v debootstrap >/dev/null || die "debootstrap is not installed: apt-get install debootstrap"
  local root=$WORK/debian address
  address=$(mirror)
  echo "debootstrap $SUITE from $address" >&2
  debootstrap --variant=minbase --include=ca-certificates "$SUITE" "$root" "$address" >"$WORK/log" 2>&1 ||
    { tail -n 20 "$WORK/log" >&2; die "debootstrap failed"; }
  printf 'deb %s %s main\n' "$address" "$SUITE" >"$root/etc/apt/sources.list"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  rm -f "$root"/var/cache/apt/archives/*.deb
  take_over_host "$root"
  chroot "$root" update-ca-certificates >/dev/null 2>&1
  tar -C "$root" --numeric-owner -c . | $DOCKER import --change 'ENV DEBIAN_FRONTEND=noninteractive' \
    --change 'CMD ["bash"]' - "$DEBIAN" >/dev/null
  rm -rf "$root"
}

build() { # TAG, Dockerfile on standard input; files lie in $WORK/context
  mkdir -p "$WORK/context"
  cat >"$WORK/context/Dockerfile"
  echo "building $1" >&2
  $DOCKER build --network "$NETWORK" --tag "$1" "$WORK/context" >"$WORK/log" 2>&1 ||
    { tail -n 20 "$WORK/log" >&2; die "$1 could not be built"; }
  rm -rf "$WORK/context"
}

# A virtual environment at /usr/local lies where the official image has its Python, so pip installs
# into it and `python` is found. With the headers, which torch.compile needs.
make_python() {
  build "$1" <<IN
FROM $DEBIAN
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \\
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN apt-get update \\
 && apt-get install -y --no-install-recommends libpython3.11-dev netbase python3.11 python3.11-venv tzdata \\
 && rm -rf /var/lib/apt/lists/* && python3.11 -m venv /usr/local
CMD ["python3"]
IN
}

make_postgres() {
  mkdir -p "$WORK/context"
  cat >"$WORK/context/docker-entrypoint.sh" <<'IN'
#!/bin/bash
# Create the cluster at the first start, as the user `postgres`, and run the server.
set -e
export PGDATA="${PGDATA:-/var/lib/postgresql/data}"
[ "${1#-}" = "$1" ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown -R postgres:postgres "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA"
  exec setpriv --reuid postgres --regid postgres --init-groups "$BASH_SOURCE" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  [ -z "$POSTGRES_PASSWORD_FILE" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  [ -n "$POSTGRES_PASSWORD" ] || { echo 'POSTGRES_PASSWORD is not set' >&2; exit 1; }
  user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  initdb --username="$user" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --encoding=UTF8 \
    --auth-local=trust --auth-host=scram-sha-256
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  pg_ctl -w -o "-c listen_addresses=''" start
  [ "$database" = postgres ] ||
    psql -v ON_ERROR_STOP=1 -U "$user" -d postgres -v name="$database" <<<'CREATE DATABASE :"name"'
  pg_ctl -m fast -w stop
fi
exec "$@"
IN
  chmod 755 "$WORK/context/docker-entrypoint.sh"
  build "$1" <<IN
FROM $DEBIAN
RUN mkdir -p /etc/postgresql-common \\
 && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \\
 && apt-get update \\
 && apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold postgresql-15 \\
 && rm -rf /var/lib/apt/lists/* && install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \\
    PGDATA=/var/lib/postgresql/data
COPY docker-entrypoint.sh /usr/local/bin/
VOLUME /var/lib/postgresql/data
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres", "-c", "listen_addresses=*"]
IN
}

make_redis() {
  mkdir -p "$WORK/context"
  cat >"$WORK/context/docker-entrypoint.sh" <<'IN'
#!/bin/bash
# Run the server as the user `redis`, for whoever reaches this container's network.
set -e
[ "${1#-}" = "$1" ] || set -- redis-server "$@"
[ "$1" = redis-server ] || exec "$@"
set -- "$@" --protected-mode no
[ "$(id -u)" = 0 ] || exec "$@"
chown -R redis:redis .
exec setpriv --reuid redis --regid redis --clear-groups "$@"
IN
  chmod 755 "$WORK/context/docker-entrypoint.sh"
  build "$1" <<IN
FROM $DEBIAN
RUN apt-get update && apt-get install -y --no-install-recommends redis-server \\
 && rm -rf /var/lib/apt/lists/* && install -d -o redis -g redis /data
COPY docker-entrypoint.sh /usr/local/bin/
VOLUME /data
WORKDIR /data
EXPOSE 6379
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["redis-server"]
IN
}

make_caddy() {
  build "$1" <<IN
FROM $DEBIAN
RUN apt-get update && apt-get install -y --no-install-recommends caddy && rm -rf /var/lib/apt/lists/*
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
VOLUME /data /config
EXPOSE 80 443
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
IN
}

make_image() { # TAG
  local tag=$1
  have "$tag" && { echo "$tag is there" >&2; return; }
  make_debian
  case $tag in
    python:3.11-slim) make_python "$tag" ;;
    postgres:15) make_postgres "$tag" ;;
    redis:7) make_redis "$tag" ;;
    caddy:2) make_caddy "$tag" ;;
    *) die "$tag is none of python:3.11-slim, postgres:15, redis:7, caddy:2" ;;
  esac
}

$DOCKER info >/dev/null 2>&1 || die "no Docker engine answers"
[ $# -gt 0 ] || set -- python:3.11-slim postgres:15 redis:7 caddy:2
for image in "$@"; do make_image "$image"; done

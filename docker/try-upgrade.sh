#!/usr/bin/env bash
# Try an upgrade by containers: start the service of COMMIT, kill it in the middle of a run, start the service
# of this tree over the same volumes, and see the run end with a whole curve.
#
#   docker/try-upgrade.sh COMMIT
#
# Environment:
#   BUILD_NETWORK  network of the builds, `default`; host: where a proxy on this machine is the way out
#   API_PORT       port on the loopback, 18200
#   KEEP=1         leave the service up at the end
#
# Needs a Docker engine with the compose plugin, git, curl, python3, and room for the images of both.
set -euo pipefail

commit=${1:?usage: docker/try-upgrade.sh COMMIT}
tree=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
work=$(mktemp -d "${TMPDIR:-/tmp}/pmae-upgrade.XXXXXX")
export COMPOSE_PROJECT_NAME=pmae-upgrade
api=http://127.0.0.1:${API_PORT:-18200}/api/v1
source_tree=$work/old

say() { echo "$(date +%T)  $*"; }
die() { echo "try-upgrade.sh: $*" >&2; exit 1; }
compose() {
  (cd "$source_tree" && docker compose --env-file "$work/env" -f docker-compose.yml -f "$work/build.yml" "$@")
}
finish() {
  [ -n "${KEEP:-}" ] || compose down -v --remove-orphans >/dev/null 2>&1 || true
  git -C "$tree" worktree remove --force "$work/old" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT

call() { # METHOD PATH [JSON]
  curl -sS -m 30 -X "$1" -H "Authorization: Bearer $key" \
    ${3:+-H 'content-type: application/json' -d "$3"} "$api$2"
}
get() { python3 -c "import json, sys; d = json.load(sys.stdin); print($1)"; }
state() { call GET "/runs/$run" | get "d['state']" 2>/dev/null || true; }
step() { call GET "/runs/$run" | get "(d.get('progress') or {}).get('done') or 0" 2>/dev/null || echo 0; }
within() { # SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { compose logs --tail 30 >&2; die "$what: not within the time"; }
    sleep 2
  done
}
ready() { [ "$(curl -sS -m 5 -o /dev/null -w '%{http_code}' "$api/readyz")" = 200 ]; }
is_far() { [ "$(step)" -gt 100 ]; }
has_ended() { case $(state) in succeeded | failed | cancelled) return 0 ;; *) return 1 ;; esac; }
build_file() { # of the services that are built
  python3 - "$source_tree/docker-compose.yml" "${BUILD_NETWORK:-default}" >"$work/build.yml" <<'IN'
import re
import sys

text = open(sys.argv[1]).read()
services = text.split("\nservices:\n")[1]
parts = re.split(r"^  (\w+):$", services, flags=re.MULTILINE)
built = [name for name, body in zip(parts[1::2], parts[2::2]) if "\n    build:" in body]
print("services:")
for name in built:
    print(f"  {name}:\n    build:\n      network: {sys.argv[2]}")
IN
}

mkdir "$work/data"
chmod 755 "$work" "$work/data"
cat >"$work/env" <<IN
POSTGRES_PASSWORD=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
PMAE_DATA_ROOT=$work/data
PMAE_API_PORT=${API_PORT:-18200}
PMAE_IMAGE=pmae-upgrade
IN

say "the service of $commit"
git -C "$tree" worktree add --quiet --detach "$work/old" "$commit"
build_file
compose build >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log" >&2; die "the images of $commit"; }
compose up -d api worker >/dev/null 2>&1
within 180 "its API" ready
key=$(compose run --rm -T api pmae keys create upgrade --role admin 2>/dev/null |
  grep -oE 'pmae_[0-9a-f]+_[A-Za-z0-9_-]+' | tail -n 1)
[ -n "$key" ] || die "no key could be made"
run=$(call POST '/runs?preset=quickstart' '{"epochs": 300, "name": "upgraded"}' | get "d['id']")
within 300 "its training" is_far
say "run $run is at step $(step); everything is killed"
compose kill >/dev/null 2>&1
compose down >/dev/null 2>&1
git -C "$tree" worktree remove --force "$work/old"

source_tree=$tree
build_file
say "the service of this tree"
compose build >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log" >&2; die "the images of this tree"; }
compose up -d api worker >/dev/null 2>&1
within 300 "the API after the upgrade" ready
within 900 "the end of the run" has_ended
[ "$(state)" = succeeded ] || { call GET "/runs/$run" | get "d.get('error')"; die "the run is $(state)"; }
call GET "/metrics?runs=$run&format=csv" >"$work/points.csv"
python3 - "$work/points.csv" "$(call GET "/runs/$run" | get "d['progress'].get('total_epochs') or d['spec']['epochs']")" <<'IN'
import csv
import sys
from collections import Counter

points = list(csv.DictReader(open(sys.argv[1])))
epochs = int(sys.argv[2])
seen = Counter((point["name"], point["step"]) for point in points)
assert max(seen.values()) == 1, "a point stands twice"
losses = sorted(float(point["epoch"]) for point in points if point["name"] == "val_loss")
assert len(losses) == epochs, f"{len(losses)} points of val_loss for {epochs} epochs"
print(f"{len(points)} points, none lost, none doubled; val_loss of all {epochs} epochs")
IN
starts=$(call GET "/runs/$run/history?limit=200" |
  get "sum(e['type'] == 'state' and e['data'].get('to') == 'running' for e in d['items'])")
say "upgraded: run $run succeeded after $starts starts; its probe: $(call GET "/runs/$run" |
  get "[(e['features'], e['top1']) for e in d['evaluations']]")"

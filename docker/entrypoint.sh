#!/usr/bin/env bash
# Start of the server image: make the cluster if there is none, bring the schema up to
# date while nobody can connect, then become the server.
set -euo pipefail

: "${FLYWHEEL_PASSWORD:?set FLYWHEEL_PASSWORD: the password of the role postgres over TCP}"

# Private until here: the socket and the loopback address inside the container.
flywheel-db up
trap 'flywheel-db down' ERR
flywheel-db migrate
# Read by psql from its environment, so that it shows in no list of processes.
flywheel-db psql -X -q -v ON_ERROR_STOP=1 <<'SQL'
\getenv password FLYWHEEL_PASSWORD
alter role postgres password :'password';
SQL
if [ -n "${FLYWHEEL_GRAFANA_PASSWORD:-}" ]; then
  flywheel-db psql -X -q -v ON_ERROR_STOP=1 -f /usr/local/lib/flywheel-db/grafana-role.sql
fi
trap - ERR
flywheel-db down
unset FLYWHEEL_PASSWORD FLYWHEEL_GRAFANA_PASSWORD

data="$FLYWHEEL_HOME/data"
# The container's network is the border now; every connection over it needs a password.
rule='host    all          all       all           scram-sha-256'
grep -qxF "$rule" "$data/pg_hba.conf" || echo "$rule" >>"$data/pg_hba.conf"
# What flywheel-db up has lent the server's Python: the libraries of the extra checks.
export PYTHONPATH="$FLYWHEEL_HOME/python"
exec "/usr/lib/postgresql/$(cat "$data/PG_VERSION")/bin/postgres" -D "$data" -c port=5432 -c listen_addresses='*' \
  -c unix_socket_directories="$FLYWHEEL_HOME/run"

#!/usr/bin/env bash
# A shared MLflow tracking server on one Linux machine, without containers: PostgreSQL and `mlflow server` in one folder.
# Run: deploy/tracking-server.sh FOLDER     (docs/tracking-server.md; --help lists the options)
# INT or TERM stops both, cleanly; the same command goes on with what the folder holds.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/tracking-server.sh [options] FOLDER

Keeps everything in FOLDER and serves until INT or TERM.

  --port P            of the tracking server (5000)
  --database-port P   of PostgreSQL, on 127.0.0.1 only (5433)
  --host ADDRESS      to listen on (127.0.0.1); any other asks for --allowed-hosts
  --allowed-hosts A,B the names clients may call this server by, besides localhost
  --auth              users and passwords (needs Flask-WTF); the first one is written to FOLDER/auth.ini
  --workers N         server processes (2)

PYTHON names the interpreter that has mlflow and psycopg2 (default: .venv/bin/python here, else python3).
USAGE
}

say() { printf 'tracking-server: %s\n' "$*"; }
refuse() {
  say "$*" >&2
  exit 2
}

host=127.0.0.1 port=5000 database_port=5433 allowed='' auth='' workers=2 folder=''
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit ;;
    --auth) auth=yes ;;
    --host | --port | --database-port | --allowed-hosts | --workers)
      [ $# -gt 1 ] || refuse "$1 needs a value"
      case $1 in
        --host) host=$2 ;;
        --port) port=$2 ;;
        --database-port) database_port=$2 ;;
        --allowed-hosts) allowed=$2 ;;
        --workers) workers=$2 ;;
      esac
      shift
      ;;
    -*) refuse "$1 is no option of this script; --help lists them" ;;
    *)
      [ -z "$folder" ] || refuse "expected one folder, found $folder and $1"
      folder=$1
      ;;
  esac
  shift
done
[ -n "$folder" ] || refuse 'name the folder that shall hold the database and the artifacts; --help lists the options'
for number in "$port" "$database_port" "$workers"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || refuse "$number: expected a number above 0"
done

# A page in somebody's browser can reach a server on this machine too, by a name of its own: the Host header is checked.
hosts=127.0.0.1:$port,localhost:$port origins=''
case $host in
  127.0.0.1 | localhost) ;;
  *) [ -n "$allowed" ] || refuse "--host $host opens the server to others: say with --allowed-hosts what they may call it" ;;
esac
IFS=, read -ra names <<<"$allowed"
for name in ${names[@]+"${names[@]}"}; do # MLflow takes a * anywhere in a name for any characters
  [[ $name =~ ^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$ ]] ||
    refuse "--allowed-hosts: expected names such as tracker.example.org or tracker.example.org:$port, not '$name'"
  if [ -n "${BASH_REMATCH[2]}" ]; then
    hosts+=,$name
  else
    hosts+=,$name,$name:$port # without the port: what a proxy in front of it passes on
  fi
done
IFS=, read -ra names <<<"$hosts"
for name in "${names[@]}"; do # without these, the UI under such a name could read but not change
  origins+=${origins:+,}http://$name,https://$name
done

# What it needs

export PYTHONSAFEPATH=1 # else a module of the folder this was typed in would be taken for one of Python
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$here/.venv/bin/python}
[ -x "$python" ] || [ -n "${PYTHON:-}" ] || python=python3
has() { "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)" 2>/dev/null; }
has mlflow || refuse "$python has no mlflow: install this project there, or name another interpreter in PYTHON"
has psycopg2 || refuse "$python has no psycopg2: pip install 'fmnist-sweep[server]' (or psycopg2-binary)"
[ -z "$auth" ] || has flask_wtf || refuse "--auth: $python has no flask_wtf: pip install 'fmnist-sweep[server]' (or Flask-WTF)"

umask 077
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
data=$folder/postgres passwords=$folder/pgpass
[ ${#data} -le 80 ] || refuse "$folder: too long for the address of PostgreSQL's socket in it; choose a shorter one"

# A data folder belongs to one major version of PostgreSQL, for good.
version=''
[ ! -e "$data" ] || version=$(cat "$data/PG_VERSION")
programs=''
# shellcheck disable=SC2012  # version names hold no odd characters, and ls sorts them
for candidate in "$(dirname "$(readlink -f "$(command -v initdb || echo /)")")" $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV); do
  [ -x "$candidate/initdb" ] && [ -x "$candidate/pg_ctl" ] && [ -x "$candidate/psql" ] || continue
  if [[ -z $version || $("$candidate/postgres" --version) =~ \ "$version"[.\ ] ]]; then
    programs=$candidate
    break
  fi
done
[ -n "$programs" ] || refuse "no PostgreSQL${version:+ $version} found (initdb in PATH or in /usr/lib/postgresql/*/bin): install it, e.g. apt-get install postgresql${version:+-$version}"

as_owner=()
if [ "$(id -u)" = 0 ]; then # as whom PostgreSQL refuses to run
  id postgres >/dev/null 2>&1 || refuse 'run as root, it needs a user postgres to run PostgreSQL as: useradd --system postgres'
  as_owner=(runuser -u postgres --)
  chmod a+x "$folder"
  "${as_owner[@]}" test -x "$folder" || refuse "$folder: user postgres cannot get there; choose a folder whose parents all may enter"
fi
postgres() { (cd / && umask 077 && "${as_owner[@]}" "$programs/$1" "${@:2}" 9>&-); }

exec 9>"$folder/lock" # given up by the system when this process ends, however it does; its children do not get it
flock -n 9 || refuse "another tracking-server.sh serves $folder"

# Secrets: in files only their owner reads, never on a command line

random() { "$python" -c 'import secrets; print(secrets.token_hex(24))'; }
aside() { cat >"$1.new" && mv "$1.new" "$1"; } # whole or not there
[ -s "$passwords" ] || echo "127.0.0.1:*:*:mlflow:$(random)" | aside "$passwords"
chmod 600 "$passwords"
if [ -n "$auth" ]; then
  [ -s "$folder/auth.key" ] || random | aside "$folder/auth.key"
  admin=$(sed -n 's/^admin_password = //p' "$folder/auth.ini" 2>/dev/null || true)
  aside "$folder/auth.ini" <<INI
[mlflow]
default_permission = EDIT
database_uri = postgresql+psycopg2://mlflow@127.0.0.1:$database_port/mlflow_auth
admin_username = admin
admin_password = ${admin:-$(random)}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
fi

# Starting and stopping

server='' watch=''
serving() { # dead processes that nobody has asked after (as in many containers) do not count
  kill -0 -- "-$server" 2>/dev/null || return 1
  ! command -v ps >/dev/null || ps -o stat= -s "$server" | grep -qv '^Z'
}
end_database() {
  if postgres pg_ctl status -D "$data" >/dev/null; then postgres pg_ctl stop -D "$data" -m fast -w -t 60 >/dev/null || true; fi
}
stop() {
  trap '' INT TERM
  if [ -n "$watch" ]; then kill "$watch" 2>/dev/null || true; fi
  if [ -n "$server" ]; then
    kill -TERM -- "-$server" 2>/dev/null || true
    for _ in $(seq 150); do
      serving || break
      sleep 0.1
    done
    kill -KILL -- "-$server" 2>/dev/null || true
    rm -f "$folder/mlflow.pid"
  fi
  if [ -e "$data" ]; then end_database; fi
}
trap stop EXIT
trap 'say "stopping" >&2; exit 0' INT TERM

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

if [ ! -e "$data" ]; then
  rm -rf "$data.new" # of a start that was cut short
  mkdir "$data.new"
  if [ ${#as_owner[@]} -gt 0 ]; then chown postgres: "$data.new"; fi
  postgres initdb -D "$data.new" --encoding=UTF8 --locale=C --data-checksums --auth-local=peer --auth-host=scram-sha-256 >/dev/null
  mv "$data.new" "$data"
fi
end_database # of a start that was killed and could not
if answers "$database_port"; then refuse "something else answers on 127.0.0.1:$database_port: choose another --database-port"; fi
if answers "$port"; then
  left=$(cat "$folder/mlflow.pid" 2>/dev/null || true)
  refuse "something answers on 127.0.0.1:$port: choose another --port${left:+, or end what a killed start left: kill -- -$left}"
fi
# Connections: each server process keeps up to 15 to each of its stores.
settings="-p $database_port -c listen_addresses=127.0.0.1 -c unix_socket_directories=. -c max_connections=200"
settings+=" -c logging_collector=on -c log_filename=%a.log -c log_truncate_on_rotation=on"
postgres pg_ctl start -D "$data" -w -t 60 -l "$data/start.log" -o "$settings" >/dev/null 2>&1 ||
  refuse "PostgreSQL does not start: $data/start.log and $data/log say why"
password=$(head -1 "$passwords")
postgres psql -qX -v ON_ERROR_STOP=1 -h "$data" -p "$database_port" -d postgres <<SQL
SELECT 'CREATE ROLE mlflow LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mlflow') \gexec
ALTER ROLE mlflow PASSWORD '${password##*:}';
SELECT format('CREATE DATABASE %I OWNER mlflow', name) FROM unnest(ARRAY['mlflow', 'mlflow_auth']) AS wanted (name)
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
SQL

environment=(PGPASSFILE="$passwords" MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false)
options=()
if [ -n "$auth" ]; then
  environment+=(MLFLOW_AUTH_CONFIG_PATH="$folder/auth.ini")
  MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$folder/auth.key")
  export MLFLOW_FLASK_SERVER_SECRET_KEY
  options=(--app-name basic-auth)
elif [ "$host" != 127.0.0.1 ] && [ "$host" != localhost ]; then
  say "WARNING: whoever reaches $host:$port may read, change and delete everything: authentication is needed (--auth)" >&2
fi
mkdir -p "$folder/artifacts"
cd "$folder" # the server writes below its working directory
# A session of its own: Ctrl-C reaches this script alone, which then ends all of it by the number of its group.
env -u MLFLOW_TRACKING_URI -u MLFLOW_REGISTRY_URI "${environment[@]}" setsid "$python" -m mlflow server \
  --backend-store-uri "postgresql+psycopg2://mlflow@127.0.0.1:$database_port/mlflow" \
  --serve-artifacts --artifacts-destination "$folder/artifacts" \
  --host "$host" --port "$port" --workers "$workers" --allowed-hosts "$hosts" --cors-allowed-origins "$origins" \
  --uvicorn-opts --no-access-log \
  ${options[@]+"${options[@]}"} 9>&- >>"$folder/mlflow.log" 2>&1 &
server=$!
echo "$server" >"$folder/mlflow.pid"

# A restart of PostgreSQL is none of our business; its end is.
gone() {
  local misses=0
  while [ "$misses" -lt 15 ] && kill -0 $$ 2>/dev/null; do
    sleep 2 >/dev/null 2>&1
    if answers "$database_port"; then misses=0; else misses=$((misses + 1)); fi
  done
}
gone 9>&- &
watch=$!

ask=$host
if [ "$host" = 0.0.0.0 ]; then ask=127.0.0.1; fi
healthy() { "$python" -c 'import sys, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=5)' "http://$ask:$port/health" 2>/dev/null; }
until healthy; do
  kill -0 "$server" 2>/dev/null || refuse "mlflow server ended: $folder/mlflow.log says why"
  sleep 0.3
done
say "ready: tracking.uri=http://$ask:$port (everything is in $folder; INT or TERM stops it)"
if [ -n "$auth" ]; then say "the first user is admin; the password is in $folder/auth.ini"; fi

wait -n || true
if kill -0 "$server" 2>/dev/null; then
  say "PostgreSQL is gone: $data/log says why" >&2
else
  say "mlflow server ended: $folder/mlflow.log says why" >&2
fi
exit 1

# shellcheck shell=bash disable=SC2034
# What the benchmarks share: options, a working directory, servers that are stopped by their process ids, MariaDB alone
# and a three-node Galera. Sourced, after `set -euo pipefail`, from the repository's root.

# options "NAME..." ARGUMENT...: sets the variable NAME from --NAME VALUE (some-name from --some-name: some_name);
# --help prints the comment at the head of the script.
options() {
  local names=" $1 " name; shift
  while [ $# -gt 0 ]; do
    name=${1#--}
    case $1 in
      -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
      --*) [[ $names == *" $name "* ]] || { echo "unknown argument $1; see --help" >&2; exit 2; } ;;
      *) echo "unknown argument $1; see --help" >&2; exit 2 ;;
    esac
    [ $# -ge 2 ] || { echo "$1 needs a value; see --help" >&2; exit 2; }
    printf -v "${name//-/_}" %s "$2"
    shift 2
  done
}

work=$(mktemp -d "${TMPDIR:-/tmp}/borealis-bench.XXXXXX")
# Galera's rsync transfer does not work as root, and a server should not run as root anyway.
server_user=$(id -un)
if [ "$server_user" = root ]; then server_user=mysql; chmod 755 "$work"; fi
pids=()
# Whatever else the machine does shows in the figures, so they say how busy it was.
busy_before=$(cut -d' ' -f1 /proc/loadavg)
release=${CARGO_TARGET_DIR:-target}/release
node=$release/borealis-node

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
need() { command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }; }
chosen() { case ,$subjects, in *,"$1",*) return 0 ;; *) return 1 ;; esac; }

# One build for all benchmarks: cargo builds dependencies again for every other choice of targets.
build() { say "building"; cargo build --release -q -p node --bin borealis-node --example failover; }

finish() {
  if [ -d "$work/playground" ]; then "$node" playground down --data-dir "$work/playground" >/dev/null 2>&1 || true; fi
  stop_servers
  rm -rf "$work"
}
trap finish EXIT

stop_servers() {
  local pid
  for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]:-}"; do [ -z "$pid" ] || wait "$pid" 2>/dev/null || true; done
  pids=()
}

# cluster_of DIR: sets, of the playground in that directory, ports (comma separated: the cluster endpoint, or every
# instance), user, password, database and prefix, with which the names of its storage nodes begin.
cluster_of() {
  read -r ports user password database prefix < <("$node" playground status --data-dir "$1" -o json | python3 -c '
import json, sys
status = json.load(sys.stdin); has = status["credentials"]
ports = [status["cluster"]["port"]] if status["cluster"] else [one["port"] for one in status["instances"]]
prefix = status["storage"][0]["name"].rsplit("-", 1)[0]
print(",".join(map(str, ports)), has["user"], has["password"], has["database"], prefix)')
}

# volume STATEMENT, through the first port of cluster_of.
volume() { MYSQL_PWD=$password mariadb -N -h 127.0.0.1 -P "${ports%%,*}" -u "$user" "$database" -e "$1"; }

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

# sql PORT STATEMENT, as root of a server of ours.
sql() { mariadb -h127.0.0.1 -P"$1" -uroot -N -e "$2"; }

# wait_sql PORT [STATEMENT WANTED]: until it answers, and so if an answer is wanted.
wait_sql() {
  local got
  for _ in $(seq 600); do
    if got=$(sql "$1" "${2:-select 1}" 2>/dev/null) && [ "$got" = "${3:-1}" ]; then return 0; fi
    sleep 0.2
  done
  echo "port $1 does not answer ${3:-1} to ${2:-select 1}" >&2; return 1
}

# mariadb_server NAME PORT EXTRA...: a server on a directory of its own, which is made at first; adds its pid to pids.
mariadb_server() {
  need mariadbd mariadb-server
  local dir=$work/$1 port=$2; shift 2
  if [ ! -d "$dir" ]; then
    mkdir "$dir"
    if [ "$(id -un)" != "$server_user" ]; then chown "$server_user" "$dir"; fi
    mariadb-install-db --no-defaults --user="$server_user" --datadir="$dir" \
      --auth-root-authentication-method=normal >/dev/null 2>&1
  fi
  mariadbd --no-defaults --user="$server_user" --datadir="$dir" --port="$port" --bind-address=127.0.0.1 \
    --socket="$dir/socket" --pid-file="$dir/pid" --innodb-buffer-pool-size=512M --max-connections=400 "$@" \
    >>"$dir.log" 2>&1 &
  pids+=($!)
  wait_sql "$port" || { tail -20 "$dir.log" >&2; return 1; }
}

galera_ports=() galera_group=()

# galera_server I ADDRESS: the server of that number joins the cluster of that address (gcomm:// begins one).
galera_server() {
  mariadb_server "galera$1" "${galera_ports[$1]}" --binlog-format=ROW --innodb-autoinc-lock-mode=2 --wsrep-on=ON \
    --wsrep-provider=/usr/lib/galera/libgalera_smm.so --wsrep-cluster-address="$2" \
    --wsrep-node-address=127.0.0.1 --wsrep-sst-method=rsync \
    --wsrep-sst-receive-address="127.0.0.1:$(free_port)" \
    --wsrep-provider-options="base_port=${galera_group[$1]};ist.recv_addr=127.0.0.1:$(free_port)"
  galera_synced "$1"
}

# galera_synced I...: waits until these servers are full members.
galera_synced() {
  local i
  for i in "$@"; do
    wait_sql "${galera_ports[$i]}" \
      "select variable_value from information_schema.global_status where variable_name = 'wsrep_local_state_comment'" Synced
  done
}

# What galera_server takes to join the others.
galera_others() { local IFS=,; local hosts=("${galera_group[@]/#/127.0.0.1:}"); echo "gcomm://${hosts[*]}"; }

# galera_up: three servers and a database; their pids are the last three of pids.
galera_up() {
  [ -e /usr/lib/galera/libgalera_smm.so ] || { echo "Galera is missing: apt-get install galera-4" >&2; return 1; }
  need rsync rsync
  local i
  for i in 0 1 2; do galera_ports[i]=$(free_port); galera_group[i]=$(free_port); done
  galera_server 0 gcomm://
  galera_server 1 "$(galera_others)"
  galera_server 2 "$(galera_others)"
  galera_synced 0 1 2
  sql "${galera_ports[0]}" 'create database app'
}

# One paragraph on what the figures come from.
machine() {
  local cpu memory version
  cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
  memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)
  version=$(git rev-parse --short HEAD 2>/dev/null || echo "no git")
  if [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then version+=" with changes"; fi
  echo "Machine: $(nproc) cores${cpu:+ ($cpu)}, $memory, Linux $(uname -r), $(findmnt -no FSTYPE -T "$work" || echo unknown file system)."
  echo "Borealis $("$node" --version | awk '{ print $2 }') ($version)$(
    command -v mariadbd >/dev/null && mariadbd --version | sed -n 's/.*Ver \([0-9.]*\).*/, MariaDB \1/p'
  )$(
    dpkg-query -W -f=', Galera ${Version}' galera-4 2>/dev/null || true
  )$(
    command -v sysbench >/dev/null && sysbench --version | sed 's/^/, /'
  ). $(date -u +%F). Load average before the run: $busy_before."
}

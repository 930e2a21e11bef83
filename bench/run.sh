#!/usr/bin/env bash
# The benchmark: sysbench against Borealis (both modes), MariaDB alone and a three-node Galera, on this machine
# in one run, each subject alone while it is measured. One command, one table:
#
#   bench/run.sh [--seconds 10] [--threads 8] [--rows 10000] [--rounds 3] [--subjects single,multi,mariadb,galera]
#
# Every figure is the median of the rounds, in transactions a second (for point selects and single statements a
# transaction is one statement), with the ratio to MariaDB alone behind it. All processes are local, all load is
# bounded by --seconds, and everything that is started is stopped by its process id.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=10 threads=8 rows=10000 rounds=3 subjects=single,multi,mariadb,galera
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    --rows) rows=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --subjects) subjects=$2; shift 2 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "unknown argument $1; see --help" >&2; exit 2 ;;
  esac
done
tests=(oltp_point_select oltp_update_index oltp_insert oltp_write_only oltp_read_write)
work=$(mktemp -d "${TMPDIR:-/tmp}/borealis-bench.XXXXXX")
# Galera's rsync transfer does not work as root, and a server should not run as root anyway.
server_user=$(id -un)
if [ "$server_user" = root ]; then server_user=mysql; chmod 755 "$work"; fi
pids=()
node=target/release/borealis-node
results=$work/results.tsv

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
need() { command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }; }
need sysbench sysbench

finish() {
  if [ -d "$work/playground" ]; then "$node" playground down --data-dir "$work/playground" >/dev/null 2>&1 || true; fi
  for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]:-}"; do [ -z "$pid" ] || wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

# wait_sql HOST PORT USER PASSWORD
wait_sql() {
  for _ in $(seq 300); do
    if mariadb -h"$1" -P"$2" -u"$3" ${4:+-p"$4"} -e 'select 1' >/dev/null 2>&1; then return 0; fi
    sleep 0.2
  done
  echo "nothing answers on $1:$2" >&2; return 1
}

# load SUBJECT PORTS USER PASSWORD DATABASE: PORTS are comma separated; sysbench spreads its threads over them.
load() {
  local subject=$1 ports=$2 user=$3 password=$4 database=$5 first=${2%%,*}
  local common=(--db-driver=mysql --mysql-host=127.0.0.1 --mysql-user="$user" --mysql-password="$password"
    --mysql-db="$database" --tables=4 --table-size="$rows" --mysql-ignore-errors=1213,1205,1020)
  for test in "${tests[@]}"; do
    sysbench "$test" "${common[@]}" --mysql-port="$first" --threads=1 prepare >"$work/sysbench.log" 2>&1 ||
      { tail -5 "$work/sysbench.log" >&2; return 1; }
    for round in $(seq "$rounds"); do
      sysbench "$test" "${common[@]}" --mysql-port="$ports" --threads="$threads" --time="$seconds" run \
        >"$work/sysbench.log" 2>&1 || { tail -5 "$work/sysbench.log" >&2; return 1; }
      local rate; rate=$(sed -n 's/.*transactions: .*(\([0-9.]*\) per sec.*/\1/p' "$work/sysbench.log")
      printf '%s\t%s\t%s\n' "$subject" "$test" "$rate" >>"$results"
      say "$subject $test round $round: $rate/s"
    done
    sysbench "$test" "${common[@]}" --mysql-port="$first" --threads=1 cleanup >/dev/null 2>&1
  done
}

borealis() { # borealis SUBJECT MANIFEST
  local data=$work/playground
  "$node" playground up -f "$2" --data-dir "$data" --detach >/dev/null
  local status; status=$("$node" playground status --data-dir "$data" -o json)
  local picked; picked=$(python3 - "$status" <<'P'
import json, sys
s = json.loads(sys.argv[1])
ports = [s["cluster"]["port"]] if s["cluster"] else [i["port"] for i in s["instances"]]
c = s["credentials"]
print(",".join(map(str, ports)), c["user"], c["password"], c["database"])
P
)
  # shellcheck disable=SC2086
  set -- "$1" $picked
  load "$1" "$2" "$3" "$4" "$5"
  "$node" playground down --data-dir "$data" >/dev/null
  rm -rf "$data"
}

mariadb_server() { # mariadb_server NAME PORT EXTRA...
  local dir=$work/$1 port=$2; shift 2
  mkdir "$dir"
  if [ "$(id -un)" != "$server_user" ]; then chown "$server_user" "$dir"; fi
  mariadb-install-db --no-defaults --user="$server_user" --datadir="$dir" --auth-root-authentication-method=normal \
    >/dev/null 2>&1
  mariadbd --no-defaults --user="$server_user" --datadir="$dir" --port="$port" --bind-address=127.0.0.1 \
    --socket="$dir/socket" --pid-file="$dir/pid" --innodb-buffer-pool-size=512M --max-connections=400 "$@" \
    >"$dir.log" 2>&1 &
  pids+=($!)
  wait_sql 127.0.0.1 "$port" root "" || { tail -20 "$dir.log" >&2; return 1; }
}

stop_servers() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  pids=()
}

alone() {
  need mariadbd mariadb-server
  local port; port=$(free_port)
  mariadb_server alone "$port"
  mariadb -h127.0.0.1 -P"$port" -uroot -e 'create database app'
  load mariadb "$port" root "" app
  stop_servers
}

galera() {
  local provider=/usr/lib/galera/libgalera_smm.so
  [ -e "$provider" ] || { echo "Galera is missing: apt-get install galera-4" >&2; return 1; }
  need rsync rsync
  local ports=() group=() i
  for i in 0 1 2; do ports+=("$(free_port)"); group+=("127.0.0.1:$(free_port)"); done
  for i in 0 1 2; do
    local address="gcomm://127.0.0.1:${group[0]##*:},127.0.0.1:${group[1]##*:},127.0.0.1:${group[2]##*:}"
    [ "$i" != 0 ] || address=gcomm://
    mariadb_server "galera$i" "${ports[$i]}" --binlog-format=ROW --innodb-autoinc-lock-mode=2 --wsrep-on=ON \
      --wsrep-provider="$provider" --wsrep-cluster-address="$address" --wsrep-node-address=127.0.0.1 \
      --wsrep-sst-method=rsync --wsrep-sst-receive-address="127.0.0.1:$(free_port)" \
      --wsrep-provider-options="base_port=${group[$i]##*:};ist.recv_addr=127.0.0.1:$(free_port)"
  done
  mariadb -h127.0.0.1 -P"${ports[0]}" -uroot -e 'create database app'
  load galera "$(IFS=,; echo "${ports[*]}")" root "" app
  stop_servers
}

case ,$subjects, in *,single,* | *,multi,*) say "building"; cargo build --release -q -p node ;; esac
: >"$results"
IFS=, read -ra chosen <<<"$subjects"
for subject in "${chosen[@]}"; do
  say "$subject"
  case $subject in
    single) borealis single-master examples/single-master.yaml ;;
    multi) borealis multi-master examples/multi-master.yaml ;;
    mariadb) alone ;;
    galera) galera ;;
    *) echo "unknown subject $subject" >&2; exit 2 ;;
  esac
done

python3 - "$results" "$threads" "$seconds" "$rounds" "$rows" <<'P' | tee bench/results.md
import collections, datetime, os, statistics, sys
path, threads, seconds, rounds, rows = sys.argv[1:]
values = collections.defaultdict(list)
subjects, tests = [], []
for line in open(path):
    subject, test, rate = line.rstrip("\n").split("\t")
    values[subject, test].append(float(rate))
    if subject not in subjects: subjects.append(subject)
    if test not in tests: tests.append(test)
print("# Benchmark\n")
print(f"sysbench, {threads} threads, 4 tables of {rows} rows, {rounds} rounds of {seconds} s each, medians, in transactions")
print(f"a second; behind it the ratio to MariaDB alone in the same run. {os.cpu_count()} cores for everything, client included.")
print(f"Made by `bench/run.sh` on {datetime.date.today()}.\n")
print("| test | " + " | ".join(subjects) + " |")
print("|---|" + "---:|" * len(subjects))
for test in tests:
    base = statistics.median(values["mariadb", test]) if values.get(("mariadb", test)) else None
    cells = []
    for subject in subjects:
        got = values.get((subject, test))
        if not got: cells.append("–"); continue
        median = statistics.median(got)
        cells.append(f"{median:,.0f}" + (f" ({median / base:.2f})" if base else ""))
    print(f"| {test} | " + " | ".join(cells) + " |")
P

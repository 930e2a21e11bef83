#!/usr/bin/env bash
# The benchmark: sysbench against Borealis (both modes), MariaDB alone and a three-node Galera, on this machine
# in one run, each subject alone while it is measured. One command, one page (bench/results.md, or --output):
#
#   bench/run.sh [--seconds 10] [--threads 8] [--rows 10000] [--rounds 3] [--subjects single,multi,mariadb,galera]
#                [--tests oltp_point_select,oltp_update_index,oltp_insert,oltp_write_only,oltp_read_write]
#                [--output bench/results.md]
#
# Every rate is the median of the rounds, in transactions a second (for point selects and single statements a
# transaction is one statement), with the ratio to MariaDB alone behind it; the CPU time is that of all processes of
# the subject, without sysbench. Also stated: how soon a playground is ready, and what its processes take at rest.
# All processes are local, all load is bounded by --seconds, and everything that is started is stopped by its
# process id.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=10 threads=8 rows=10000 rounds=3 subjects=single,multi,mariadb,galera output=bench/results.md
tests=oltp_point_select,oltp_update_index,oltp_insert,oltp_write_only,oltp_read_write
# shellcheck source=bench/lib.sh
. bench/lib.sh
options "seconds threads rows rounds subjects output tests" "$@"
need sysbench sysbench
need mariadb mariadb-client
results=$work/results.tsv rest=$work/rest.tsv
: >"$results"
: >"$rest"

# cpu_ticks PID...: user and system time of processes, in clock ticks. The name in brackets may hold blanks.
cpu_ticks() {
  local pid; for pid in "$@"; do sed 's/.*) //' "/proc/$pid/stat"; done | awk '{ all += $12 + $13 } END { print all }'
}

# load SUBJECT PORTS USER PASSWORD PID...: PORTS are comma separated; sysbench spreads its threads over them.
load() {
  local subject=$1 ports=$2 user=$3 password=$4 first=${2%%,*}; shift 4
  local server=(--db-driver=mysql --mysql-host=127.0.0.1 --mysql-user="$user" --mysql-password="$password"
    --mysql-db=app --tables=4 --table-size="$rows" --mysql-ignore-errors=1213,1205,1020)
  local hertz test round rate before after transactions common; hertz=$(getconf CLK_TCK)
  for test in ${tests//,/ }; do
    common=("${server[@]}")
    # Where several servers write, AUTO_INCREMENT counts in steps, and sysbench would look for rows that are not there.
    [ "$test" = oltp_insert ] || common+=(--auto-inc=off)
    sysbench "$test" "${common[@]}" --mysql-port="$first" --threads=1 prepare >"$work/sysbench.log" 2>&1 ||
      { tail -5 "$work/sysbench.log" >&2; return 1; }
    for round in $(seq "$rounds"); do
      before=$(cpu_ticks "$@")
      sysbench "$test" "${common[@]}" --mysql-port="$ports" --threads="$threads" --time="$seconds" run \
        >"$work/sysbench.log" 2>&1 || { tail -5 "$work/sysbench.log" >&2; return 1; }
      after=$(cpu_ticks "$@")
      read -r transactions rate < <(sed -n 's/.*transactions: *\([0-9]*\) *(\([0-9.]*\) per sec.*/\1 \2/p' "$work/sysbench.log")
      printf '%s\t%s\t%s\t%s\n' "$subject" "$test" "$rate" \
        "$(awk -v t=$((after - before)) -v h="$hertz" -v n="$transactions" 'BEGIN { print t / h * 1e6 / n }')" >>"$results"
      say "$subject $test round $round: $rate/s"
    done
    sysbench "$test" "${common[@]}" --mysql-port="$first" --threads=1 cleanup >/dev/null 2>&1
  done
}

borealis() { # borealis SUBJECT MANIFEST
  local data=$work/playground ready status processes
  ready=$("$node" playground up -f "$2" --data-dir "$data" --port 0 --detach | sed -n 's/^Ready after \([0-9.]*\) s.*/\1/p')
  status=$("$node" playground status --data-dir "$data" -o json)
  cluster_of "$data"
  # Process ids, and what every process takes before there is any load.
  processes=$(python3 - "$status" "$1" "$ready" "$rest" <<'P'
import json, statistics, sys
status, subject, ready, rest = json.loads(sys.argv[1]), *sys.argv[2:]
pids = {kind: [one["pid"] for one in status[kind]] for kind in ("instances", "storage")}
def field(pid, name):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith(name + ":"))
memory = [statistics.median(field(pid, "VmRSS") for pid in pids[kind]) / 1024 for kind in ("storage", "instances")]
print(subject, ready, *(f"{one:.0f}" for one in memory), sep="\t", file=open(rest, "a"))
# The endpoints are in the process that started the others, so its time counts too.
everything = pids["instances"] + pids["storage"] + [field(pids["instances"][0], "PPid")]
print(*everything)
P
)
  # shellcheck disable=SC2086
  load "$1" "$ports" "$user" "$password" $processes
  "$node" playground down --data-dir "$data" >/dev/null
  rm -rf "$data"
}

alone() {
  local port; port=$(free_port)
  mariadb_server alone "$port"
  sql "$port" 'create database app'
  load mariadb "$port" root "" "${pids[@]}"
  stop_servers
}

galera() {
  galera_up
  load galera "$(IFS=,; echo "${galera_ports[*]}")" root "" "${pids[@]}"
  stop_servers
}

if chosen single || chosen multi; then build; fi
for subject in ${subjects//,/ }; do
  say "$subject"
  case $subject in
    single) borealis single-master examples/single-master.yaml ;;
    multi) borealis multi-master examples/multi-master.yaml ;;
    mariadb) alone ;;
    galera) galera ;;
    *) echo "unknown subject $subject" >&2; exit 2 ;;
  esac
done

python3 - "$results" "$rest" "$threads" "$seconds" "$rounds" "$rows" "$(machine)" <<'P' | tee "$work/page"
import collections, statistics, sys
path, rest, threads, seconds, rounds, rows, machine = sys.argv[1:]
rates, times = collections.defaultdict(list), collections.defaultdict(list)
subjects, tests = [], []
for line in open(path):
    subject, test, rate, microseconds = line.rstrip("\n").split("\t")
    rates[subject, test].append(float(rate))
    times[subject, test].append(float(microseconds))
    if subject not in subjects: subjects.append(subject)
    if test not in tests: tests.append(test)

def table(values):
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

print("# Benchmark\n")
print(f"Made by `bench/run.sh`: sysbench, {threads} threads, 4 tables of {rows} rows, {rounds} rounds of {seconds} s each.")
print("Cells are medians, behind them the ratio to MariaDB alone in the same run. Single-master is one writer, two replicas")
print("and six storage nodes; multi-master three writers and six storage nodes; Galera three servers. Multi-master and Galera")
print("get the load on all three at once. Client and servers share the machine.\n")
print(machine + "\n")
print("Transactions a second:\n")
table(rates)
print("\nCPU time of all the subject's processes for a transaction, in microseconds:\n")
table(times)
lines = [line.rstrip("\n").split("\t") for line in open(rest)]
if lines:
    print("\nAt rest, right after the start of an empty cluster (median of the processes):\n")
    print("| | ready after | a storage node | an instance |\n|---|---:|---:|---:|")
    for subject, ready, storage, instance in lines:
        print(f"| {subject} | {ready} s | {storage} MiB | {instance} MiB |")
P
mv "$work/page" "$output"

#!/usr/bin/env bash
# Readmission: two of six disks lost for good, one after the other, under load; how long and how many bytes it takes
# until there are six full copies again, and what the load notices. One command, one page (bench/readmission.md, or
# --output):
#
#   bench/readmission.sh [--rows 250000] [--threads 8] [--modes single-master,multi-master] [--output bench/readmission.md]
#
# Four sysbench tables of --rows rows each are filled; then sysbench's update_index runs throughout. A storage node is
# killed, its disk removed and the node started again, then another; at last two that never lost theirs are killed, so
# that every commit needs both new disks. Any error but 1213 and 1205 fails the run. Before and after, every table must
# have all its rows. Everything that is started is stopped by its process id.
set -euo pipefail
cd "$(dirname "$0")/.."

rows=250000 threads=8 modes=single-master,multi-master output=bench/readmission.md
# shellcheck source=bench/lib.sh
. bench/lib.sh
options "rows threads modes output" "$@"
need sysbench sysbench
need mariadb mariadb-client
results=$work/results.tsv
: >"$results"

# storage_state NAME: what the playground says of it.
storage_state() {
  "$node" playground status --data-dir "$data" -o json |
    python3 -c 'import json, sys; print(next(s["state"] for s in json.load(sys.stdin)["storage"] if s["name"] == sys.argv[1]))' "$1"
}
seconds_of_load() { grep -c '^\[' "$work/load.log" || true; }
# after N more seconds of the load; fails where it has ended.
more_load() {
  local until=$(($(seconds_of_load) + $1))
  while [ "$(seconds_of_load)" -lt "$until" ]; do
    kill -0 "$load" 2>/dev/null || { tail -5 "$work/load.log" >&2; return 1; }
    sleep 0.1
  done
}
count_rows() {
  local table; for table in 1 2 3 4; do volume "SELECT COUNT(*) FROM sbtest$table"; done | awk '{ all += $1 } END { print all }'
}
lose_disk() { # NAME: its line of the results
  local name=$1 begin=$(($(seconds_of_load) + 1)) said
  "$node" playground kill "$name" --data-dir "$data" >/dev/null
  rm -r "$data/storage/$name"
  "$node" playground start "$name" --data-dir "$data" >/dev/null
  for _ in $(seq 6000); do [ "$(storage_state "$name")" != ready ] || break; sleep 0.1; done
  said=$(grep -o 'readmitted: .* milliseconds=.*' "$data/logs/$name.log" | tail -1)
  [ -n "$said" ] || { echo "$name was not readmitted" >&2; tail -5 "$data/logs/$name.log" >&2; return 1; }
  printf 'disk\t%s\t%s\t%s\t%s\t%s\t%s\n' "$mode" "$name" \
    "$(sed 's/.*milliseconds=\([0-9]*\).*/\1/' <<<"$said")" "$(sed 's/.*bytes=\([0-9]*\).*/\1/' <<<"$said")" \
    "$begin" "$(seconds_of_load)" >>"$results"
  say "$mode $name: $said"
}

measure() {
  mode=$1 data=$work/playground
  "$node" playground up -f "examples/$mode.yaml" --data-dir "$data" --port 0 --detach >/dev/null
  cluster_of "$data"
  local common=(--db-driver=mysql --mysql-host=127.0.0.1 --mysql-user="$user" --mysql-password="$password"
    --mysql-db="$database" --tables=4 --table-size="$rows" --auto-inc=off)
  say "$mode: filling four tables of $rows rows"
  sysbench oltp_update_index "${common[@]}" --mysql-port="${ports%%,*}" --threads=2 prepare >"$work/prepare.log" 2>&1 ||
    { tail -5 "$work/prepare.log" >&2; return 1; }
  [ "$(count_rows)" = $((4 * rows)) ]
  # It ends when it is told to.
  sysbench oltp_update_index "${common[@]}" --mysql-port="$ports" --threads="$threads" --time=3600 --report-interval=1 \
    --mysql-ignore-errors=1213,1205 run >"$work/load.log" 2>&1 &
  load=$!; pids+=("$load")
  more_load 12
  local quiet; quiet=$(seconds_of_load)
  lose_disk "$prefix-1"
  more_load 5
  lose_disk "$prefix-5"
  more_load 5
  local both; both=$(seconds_of_load)
  "$node" playground kill "$prefix-0" --data-dir "$data" >/dev/null
  "$node" playground kill "$prefix-3" --data-dir "$data" >/dev/null
  more_load 10
  kill "$load"; wait "$load" 2>/dev/null || true
  pids=()
  [ "$(count_rows)" = $((4 * rows)) ]
  printf 'load\t%s\t%s\t%s\t%s\n' "$mode" "$quiet" "$both" \
    "$(sed -n 's/^\[.* tps: \([0-9.]*\) .*/\1/p' "$work/load.log" | paste -sd,)" >>"$results"
  printf 'size\t%s\t%s\n' "$mode" "$(du -sb "$data/storage/$prefix-2" | cut -f1)" >>"$results"
  "$node" playground down --data-dir "$data" >/dev/null
  rm -rf "$data"
}

build
for mode in ${modes//,/ }; do measure "$mode"; done

python3 - "$results" "$rows" "$threads" "$(machine)" <<'P' | tee "$work/page"
import statistics, sys
path, rows, threads, machine = sys.argv[1:]
lines = [line.rstrip("\n").split("\t") for line in open(path)]
print("# Readmission\n")
print(f"Four tables of {int(rows):,} rows; sysbench's update_index with {threads} threads throughout, through the cluster endpoint or on all")
print("three writers. No statement failed and no row was missing. *Voted again after*: from when the node asks to be readmitted with")
print("its empty disk to its first vote. Made by `bench/readmission.sh`; everything shares this machine.\n")
print("| mode | disk lost | size of a copy | voted again after | copied | speed | writes/s meanwhile | slowest second |")
print("|---|---|---:|---:|---:|---:|---:|---:|")
for _, mode, quiet, both, rates in (line for line in lines if line[0] == "load"):
    rates = [float(rate) for rate in rates.split(",")]
    # The first seconds warm up.
    base = statistics.median(rates[2:int(quiet)])
    size = next(int(line[2]) for line in lines if line[:2] == ["size", mode])
    for _, _, name, ms, copied, begin, end in (line for line in lines if line[:2] == ["disk", mode]):
        part = rates[int(begin) - 1:int(end) + 1]
        print(f"| {mode} | {name} | {size / 1e6:,.0f} MB | {int(ms) / 1000:.1f} s | {int(copied) / 1e6:,.0f} MB | "
              f"{int(copied) / 1e3 / int(ms):.0f} MB/s | {statistics.median(part):,.0f} ({statistics.median(part) / base:.2f} of before) | {min(part) / base:.2f} of before |")
    last = rates[int(both) + 1:]
    print(f"| {mode} | then two other nodes killed | | | | | {statistics.median(last):,.0f} ({statistics.median(last) / base:.2f} of before) | {min(last) / base:.2f} of before |")
print("\n" + machine)
P
cp "$work/page" "$output"
say "written to $output"

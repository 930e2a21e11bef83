#!/usr/bin/env bash
# Failover: what clients see when a process dies or freezes under their load, on this machine in one run. One
# command, one page (bench/failover.md, or --output):
#
#   bench/failover.sh [--rounds 20] [--peer-rounds 5] [--subjects single,multi,galera] [--output bench/failover.md]
#
# single   SIGKILL, SIGTERM and SIGSTOP of the writer of a single-master cluster, --rounds of each: the time from the
#          order to the next write that is acknowledged through the cluster endpoint
# multi    SIGKILL of one of three writers, --peer-rounds times: the longest gap between two acknowledged writes on
#          each survivor, and how many of its writes failed
# galera   the same with a three-node Galera with its default settings
#
# Clients write a row every few milliseconds; afterwards every acknowledged row must be there. node/examples/failover.rs
# does the measuring. Everything that is started is stopped by its process id.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=20 peer_rounds=5 subjects=single,multi,galera output=bench/failover.md
# shellcheck source=bench/lib.sh
. bench/lib.sh
options "rounds peer-rounds subjects output" "$@"
results=$work/results.tsv
: >"$results"
measure=$release/examples/failover

galera() {
  galera_up
  local round victim ports
  for round in $(seq 0 $((peer_rounds - 1))); do
    # Each in turn; the first port is the one whose server dies.
    victim=$((round % 3))
    ports=${galera_ports[$victim]},${galera_ports[$(((victim + 1) % 3))]},${galera_ports[$(((victim + 2) % 3))]}
    "$measure" servers "$ports" "${pids[$victim]}" $((round * 3)) >>"$results"
    wait "${pids[$victim]}" 2>/dev/null || true
    galera_server "$victim" "$(galera_others)"
    # It was added at the end; the victims are found by their number.
    pids[victim]=${pids[-1]}
    unset 'pids[-1]'
    # Whoever gave it the rows is busy with that for a while longer.
    galera_synced 0 1 2
  done
  stop_servers
}

build
for subject in ${subjects//,/ }; do
  say "$subject"
  case $subject in
    single) "$measure" single "$node" examples/single-master.yaml "$rounds" >>"$results" ;;
    multi) "$measure" multi "$node" examples/multi-master.yaml "$peer_rounds" >>"$results" ;;
    galera) galera ;;
    *) echo "unknown subject $subject" >&2; exit 2 ;;
  esac
done

python3 - "$results" "$(machine)" <<'P' | tee "$work/page"
import sys
path, machine = sys.argv[1:]
rows = [line.rstrip("\n").split("\t") for line in open(path)]

def quantile(values, part):  # the smallest value that at least this part of them does not exceed
    values = sorted(values)
    return values[max(0, -(-len(values) * part // 100) - 1)]

def table(subjects, unit):
    print(f"| | fault | {unit} | p50 | p90 | worst | before the fault | rows lost | failed writes |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    kinds = dict.fromkeys((row[0], row[1]) for row in rows if row[0] in subjects)
    for subject, fault in kinds:
        own = [row for row in rows if row[:2] == [subject, fault]]
        times = [float(row[2]) for row in own if row[2] != "-"]
        quiet = [float(row[3]) for row in own if row[3] != "-"]
        lost, failed = sum(int(row[4]) for row in own), sum(int(row[5]) for row in own)
        cells = [f"{quantile(times, part):,.0f} ms" for part in (50, 90, 100)]
        print(f"| {subject} | {fault} | {len(times)} | " + " | ".join(cells)
              + f" | {quantile(quiet, 100):,.0f} ms | {lost} | {failed} |")
    print()

print("# Failover\n")
print("Made by `bench/failover.sh`. Clients write a row every few milliseconds and reconnect when they must.\n")
print(machine + "\n")
have = {row[0] for row in rows}
if "single-master" in have:
    print("One writer, two replicas, six storage nodes; four clients of the cluster endpoint. The time is that from the order to")
    print("break the writer to the next write that is acknowledged. *Before the fault* is the longest time without an acknowledged")
    print("write in the two seconds before any of the faults. *Failed writes* are those whose connection broke: their clients did not")
    print("learn the outcome, and connected again.\n")
    table(["single-master"], "faults")
if have & {"multi-master", "galera"}:
    print("Three servers that all write, one of which is killed; one client on each. The time is the longest gap between two")
    print("acknowledged writes on a survivor; *failed writes* are those on survivors; *rows lost* are counted on all three.\n")
    table(["multi-master", "galera"], "gaps")
P
mv "$work/page" "$output"
# A page that shows a loss is still worth reading; the command says so.
awk -F '\t' '$1 != "galera" { lost += $5 } $1 == "multi-master" { failed += $6 } END { exit lost + failed > 0 }' "$results" ||
  { echo "acknowledged rows were lost, or writes on survivors failed: see $output" >&2; exit 1; }

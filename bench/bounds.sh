#!/usr/bin/env bash
# Shows that nothing grows without limit: updates the same thousand rows again and again and draws memory and disk
# of every process over the number of row updates. One command, one page with a drawing for each mode beside it:
#
#   bench/bounds.sh [--updates 10000000] [--threads 8] [--modes single-master,multi-master] [--output bench/bounds.md]
#
# Each transaction updates 20 rows. A sample every 5 s. Fails if the last quarter needs over a tenth more memory or
# disk than the third quarter, or if an update is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

updates=10000000 threads=8 modes=single-master,multi-master output=bench/bounds.md span=20 rows=1000 sample=5
# shellcheck source=bench/lib.sh
. bench/lib.sh
options "updates threads modes output" "$@"
need sysbench sysbench
need mariadb mariadb-client
data=$work/playground

measure() {
  local mode=$1 load begin done_updates
  "$node" playground up -f "examples/$mode.yaml" --data-dir "$data" --port 0 --detach >/dev/null
  "$node" playground status --data-dir "$data" -o json >"$work/status.json"
  cluster_of "$data"
  volume "CREATE TABLE bounds (id INT PRIMARY KEY, n BIGINT NOT NULL, pad CHAR(60) NOT NULL)"
  volume "INSERT INTO bounds VALUES $(seq -s, "$rows" | sed 's/[0-9]\+/(&,0,REPEAT("x",60))/g')"
  sysbench bench/bounds.lua --db-driver=mysql --mysql-host=127.0.0.1 --mysql-port="$ports" --mysql-user="$user" \
    --mysql-password="$password" --mysql-db="$database" --mysql-ignore-errors=1213,1205 --threads="$threads" \
    --rows=$rows --span=$span --events=$((updates / span)) --time=0 run >"$work/$mode.log" 2>&1 &
  load=$!; pids+=("$load")
  begin=$SECONDS
  # Samples until the load ends: a line a process, with the sum of all rows as the count of updates so far.
  while true; do
    done_updates=$(volume "SELECT SUM(n) FROM bounds")
    sample_of "$done_updates" $((SECONDS - begin)) >>"$work/$mode.tsv"
    kill -0 "$load" 2>/dev/null || break
    [ $(((SECONDS - begin) % 30)) -ge $sample ] || say "$mode: $done_updates of $updates updates"
    # The load is looked at again after the pause, or at once when it ends.
    timeout $sample tail --pid="$load" -f /dev/null || true
  done
  wait "$load" || { tail -5 "$work/$mode.log" >&2; return 1; }
  pids=()
  "$node" playground down --data-dir "$data" >/dev/null
  rm -rf "$data"
}

sample_of() {
  python3 - "$work/status.json" "$data" "$@" <<'P'
import json, os, sys
status, data, updates, second = sys.argv[1:]
s = json.load(open(status))
def resident(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"): return int(line.split()[1]) * 1024
def on_disk(path):
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try: total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError: pass
    return total
for kind in ("instances", "storage"):
    for one in s[kind]:
        disk = on_disk(os.path.join(data, "storage", one["name"])) if kind == "storage" else 0
        print(updates, second, kind, one["name"], resident(one["pid"]), disk, sep="\t")
P
}

build
for mode in ${modes//,/ }; do measure "$mode"; done
python3 - "$work" "$modes" "$updates" "$threads" "$output" "$(machine)" <<'P'
import collections, os, re, statistics, sys
work, modes, wanted, threads, output, machine = sys.argv[1:]
title = {("instances", "memory"): "an instance's memory", ("storage", "memory"): "a storage node's memory", ("storage", "disk"): "a storage node's disk"}
failed = False

def draw(series, total, path):
    W, H, L, B = 760, 220, 70, 36
    svg = []
    for row, (kind, what) in enumerate(title):
        top = row * (H + 30)
        keys = [key for key in series if key[:2] == (kind, what)]
        high = max(v for key in keys for _, v in series[key]) * 1.1 or 1
        svg.append(f'<text x="{L}" y="{top + 16}" font-weight="bold">{title[kind, what]}, MiB</text>')
        for step in range(5):
            y = top + H - B - (H - B - 30) * step / 4
            svg.append(f'<line x1="{L}" x2="{W - 10}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/><text x="{L - 8}" y="{y + 4:.0f}" text-anchor="end">{high * step / 4:,.0f}</text>')
            x = L + (W - 10 - L) * step / 4
            svg.append(f'<text x="{x:.0f}" y="{top + H - B + 16}" text-anchor="middle">{total * step / 4 / 1e6:.1f} M</text>')
        for index, key in enumerate(keys):
            points = " ".join(f"{L + (W - 10 - L) * u / total:.1f},{top + H - B - (H - B - 30) * v / high:.1f}" for u, v in series[key])
            svg.append(f'<polyline fill="none" stroke="hsl({index * 60},60%,45%)" stroke-width="1.5" points="{points}"><title>{key[2]}</title></polyline>')
    height = 3 * (H + 30)
    open(path, "w").write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {height}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>{"".join(svg)}</svg>\n')

out = ["# Bounds\n",
  f"Updates of the same 1,000 rows, 20 in a transaction, by {threads} threads of sysbench through the cluster endpoint or on all",
  "three writers; everything shares this machine. Medians of the four quarters of the run, in MiB, of the process that took",
  "most. Refused transactions (1213, 1205) were tried again. Made by `bench/bounds.sh`.\n"]
for mode in modes.split(","):
    rows = [line.rstrip("\n").split("\t") for line in open(f"{work}/{mode}.tsv")]
    series = collections.defaultdict(list)
    for updates, second, kind, name, memory, disk in rows:
        series[kind, "memory", name].append((int(updates), int(memory) / 2**20))
        if kind == "storage": series[kind, "disk", name].append((int(updates), int(disk) / 2**20))
    total, seconds = int(rows[-1][0]), int(rows[-1][1])
    refused = int(re.search(r"ignored errors:\s+(\d+)", open(f"{work}/{mode}.log").read()).group(1))
    def quarter(points, n):
        part = [value for updates, value in points if total * (n - 1) / 4 <= updates <= total * n / 4]
        return statistics.median(part) if part else points[-1][1]
    picture = f"{os.path.splitext(output)[0]}-{mode}.svg"
    out += [f"## {mode}\n", f"{total:,} updates in {seconds} s, {refused:,} transactions refused; the curves are in [{os.path.basename(picture)}]({os.path.basename(picture)}).\n",
      "| | 1st quarter | 2nd | 3rd | 4th | highest | |", "|---|---:|---:|---:|---:|---:|---|"]
    for (kind, what), name in title.items():
        worst = max((key for key in series if key[:2] == (kind, what)), key=lambda key: max(v for _, v in series[key]))
        points = series[worst]
        medians = [quarter(points, n) for n in (1, 2, 3, 4)]
        grows = medians[3] > medians[2] * 1.1 + 1
        failed |= grows
        out.append(f"| {name} | " + " | ".join(f"{value:,.0f}" for value in medians) + f" | {max(v for _, v in points):,.0f} | {'GROWS' if grows else 'flat'} |")
    out.append("")
    draw(series, total, picture)
    if total < int(wanted) * 0.98 - refused * 20: print(f"{mode}: only {total} of {wanted} updates were made", file=sys.stderr); failed = True
out.append(machine)
open(output, "w").write("\n".join(out) + "\n")
print("\n".join(out))
sys.exit(failed)
P

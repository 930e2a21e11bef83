#!/usr/bin/env bash
# Tests against a real Kubernetes: installs the operator's chart, applies every example, connects from a pod and
# from outside, breaks clusters under load and deletes them. Ends with `N passed, N failed`.
#
# The Kubernetes: KUBECONFIG if it is set; else kind, where Docker works; else e2e/cluster, as root. The images:
# BOREALIS_IMAGE and BOREALIS_CLIENT_IMAGE, if set, are used as they are; otherwise both are made of the programs
# in ${CARGO_TARGET_DIR:-target}/debug and loaded. E2E_KEEP=1 leaves everything up.
# `run.sh NAME...` runs only the named groups: manifests, small, multi_master, single_master, faults (random ones, for
# FAULT_SECONDS in each mode, from FAULT_SEED). `run.sh build` only
# builds the Kubernetes that they will run on, if it has to be built (once per machine).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$here/..
target=${CARGO_TARGET_DIR:-$root/target}/debug
cache=${XDG_CACHE_HOME:-$HOME/.cache}/borealis/bin
namespace=borealis-e2e system=borealis-system
image=${BOREALIS_IMAGE:-localhost/borealis:e2e} client_image=${BOREALIS_CLIENT_IMAGE:-localhost/borealis-client:e2e}
groups=("$@"); [ ${#groups[@]} -gt 0 ] || groups=(manifests small multi_master single_master faults)
passed=0 failed=0 skipped=0 failures='' kind_name='' own='' outside=nodeport
work=$(mktemp -d)

say() { printf '%s %s\n' "$(date +%T)" "$*"; }
pass() { passed=$((passed + 1)); say "ok    $*"; }
flunk() { failed=$((failed + 1)); failures+="FAIL  $*"$'\n'; say "FAIL  $*"; }
# expect NAME COMMAND...: a test. Its output is shown where it fails.
expect() {
  local name=$1 output; shift
  if output=$("$@" 2>&1); then pass "$name${output:+: $(tail -n 1 <<<"$output" | cut -c 1-200)}"
  else
    flunk "$name"; output=$(tail -n 20 <<<"$output" | sed 's/^/        /')
    echo "$output"; failures+=$output$'\n'; return 1
  fi
}
finish() { # [skipped]: what failed once more, since logs are read from their end, and the closing line
  printf '%s' "$failures"
  say "$passed passed, $failed failed${1:+, $1 skipped}" | cut -d ' ' -f 2-
  [ "$failed" = 0 ]; exit
}
skip() { say "skipped: $*"; skipped=$((skipped + 1)); finish "$skipped"; }
cleanup() {
  if [ -n "${E2E_KEEP:-}" ]; then say "left up: KUBECONFIG=${KUBECONFIG:-}"
  else
    if [ -n "$kind_name" ]; then kind delete cluster --name "$kind_name" >/dev/null 2>&1
    elif [ -n "$own" ]; then "$here/cluster/cluster.sh" down >/dev/null 2>&1
    elif [ -n "${installed:-}" ]; then
      kubectl delete namespace "$namespace" --wait=false >/dev/null 2>&1
      "$helm" uninstall borealis -n "$system" >/dev/null 2>&1; fi
  fi
  rm -rf "$work"
}
trap cleanup EXIT

# --- a Kubernetes -----------------------------------------------------------------------------------------
three_zones() { # a kind cluster of three workers, each its own zone
  cat <<X
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
$(for zone in 1 2 3; do printf -- '- role: worker\n  labels: {topology.kubernetes.io/zone: zone-%s}\n' $zone; done)
X
}
which_kubernetes() {
  if [ -n "${KUBECONFIG:-}" ]; then echo given
  elif command -v kind >/dev/null && docker info >/dev/null 2>&1; then echo kind
  elif [ "$(id -u)" = 0 ] && command -v go >/dev/null && command -v dpkg >/dev/null; then echo own
  else echo none; fi
}
find_kubernetes() {
  command -v kubectl >/dev/null || skip "kubectl is not installed"
  local which; which=$(which_kubernetes)
  if [ "$which" = given ]; then
    kubectl get nodes >/dev/null 2>&1 || { flunk "KUBECONFIG=$KUBECONFIG reaches a Kubernetes"; finish; }
    say "using KUBECONFIG=$KUBECONFIG"
    [ "$KUBECONFIG" != "$("$here/cluster/cluster.sh" kubeconfig)" ] || outside=service
  elif [ "$which" = kind ]; then
    kind_name=borealis-e2e; export KUBECONFIG=$work/kubeconfig
    say "creating a kind cluster"
    three_zones | kind create cluster --name $kind_name --wait 120s --config - >"$work/kind.log" 2>&1 \
      || { cat "$work/kind.log"; flunk "kind creates a cluster"; finish; }
  elif [ "$which" = own ]; then
    say "no Docker: bringing up e2e/cluster (its first build takes a quarter of an hour)"
    "$here/cluster/build.sh" >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log"; flunk "e2e/cluster builds"; finish; }
    own=1 outside=service
    "$here/cluster/cluster.sh" up 3 >"$work/up.log" 2>&1 || { tail -n 20 "$work/up.log"; flunk "e2e/cluster comes up"; finish; }
    KUBECONFIG=$("$here/cluster/cluster.sh" kubeconfig); export KUBECONFIG
  else
    skip "no KUBECONFIG, no kind with a working Docker, and e2e/cluster needs root, Go and Debian"
  fi
  helm=$(command -v helm || echo "$cache/helm")
  [ -x "$helm" ] || skip "helm is not installed"
}

if [ "${groups[*]}" = build ]; then
  [ "$(which_kubernetes)" = own ] || { say "nothing to build"; exit 0; }
  "$here/cluster/build.sh"; exit
fi

# --- images -----------------------------------------------------------------------------------------------
# make_image OUT NAME PROGRAM...: an image with the programs and the libraries that they are linked with.
make_image() {
  local out=$1 name=$2 program files=() library; shift 2
  for program; do
    strip -o "$work/$(basename "$program")" "$program" 2>/dev/null || cp "$program" "$work/"
    files+=("$work/$(basename "$program"):/bin/$(basename "$program")")
    while read -r library; do files+=("$library:$library"); done < <(ldd "$program" | grep -o '/[^ ]*')
  done
  mapfile -t files < <(printf '%s\n' "${files[@]}" | sort -u)
  python3 "$here/cluster/mkimage.py" "$out" "$name" "/bin/$(basename "$1")" "${files[@]}"
}
load_images() {
  if [ -z "${BOREALIS_IMAGE:-}" ] || [ -z "${BOREALIS_CLIENT_IMAGE:-}" ]; then
    # Up to date after `make build`; otherwise this builds what is missing.
    (cd "$root" && cargo build --quiet --workspace --bins --tests) || { flunk "the programs build"; finish; }
    make_image "$work/borealis.tar" "$image" "$target/borealis-node" "$target/borealis-operator"
    make_image "$work/client.tar" "$client_image" "$target/e2e-client"
    say "image of $(($(stat -c %s "$work/borealis.tar") / 1000000)) MB, uncompressed and unoptimised"
    if [ -n "$kind_name" ]; then
      kind load image-archive --name $kind_name "$work/borealis.tar" "$work/client.tar" >/dev/null 2>&1
    elif [ "$outside" = service ]; then "$here/cluster/cluster.sh" load "$work/borealis.tar" "$work/client.tar"
    else skip "images cannot be loaded into this Kubernetes: set BOREALIS_IMAGE and BOREALIS_CLIENT_IMAGE"; fi
  fi
}

# --- what the tests are made of ---------------------------------------------------------------------------
k() { kubectl -n $namespace "$@"; }
now_ms() { date +%s%3N; }
field() { k get auroracluster "$1" -o jsonpath="{$2}"; }
# wait_until SECONDS WHAT COMMAND...: until the command succeeds; says what it waited for where it never does.
wait_until() {
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "waited in vain: $what"; k get auroraclusters,pods -o wide; return 1; }
    sleep 0.1
  done
}
ready() { [ "$(field "$1" '.status.conditions[?(@.type=="Ready")].status')" = True ] \
  && [ "$(field "$1" .status.observedGeneration)" = "$(field "$1" .metadata.generation)" ]; }
becomes_ready() { # cluster
  local began; began=$(now_ms)
  wait_until 120 "$1 is Ready" ready "$1" || return 1
  echo "after $(($(now_ms) - began)) ms"
}
apply_example() { k apply -f "$root/examples/$1.yaml" && becomes_ready "$2"; }
credentials() { # cluster: variables for the client
  local key value
  for key in username:BOREALIS_USER password:BOREALIS_PASSWORD database:BOREALIS_DATABASE; do
    value=$(k get secret "$1-admin" -o jsonpath="{.data.${key%%:*}}" | base64 -d)
    printf '%s=%s\n' "${key##*:}" "$value"
  done
}
# in_pod NAME CLUSTER ARGUMENTS...: starts the client in a pod that meets the restricted security standard.
in_pod() {
  local name=$1 cluster=$2 variables='' line arguments; shift 2
  while read -r line; do variables+="{name: ${line%%=*}, value: \"${line#*=}\"},"; done < <(credentials "$cluster")
  arguments=$(printf '"%s",' "$@")
  k delete pod "$name" --ignore-not-found --now >/dev/null 2>&1
  k apply -f - >/dev/null <<X
apiVersion: v1
kind: Pod
metadata: {name: $name}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: client
    image: $client_image
    imagePullPolicy: IfNotPresent
    command: [e2e-client, $arguments]
    env: [$variables]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
X
}
finished() { [[ $(k get pod "$1" -o jsonpath='{.status.phase}') =~ Succeeded|Failed ]]; }
pod_result() { # name: its output; fails if it failed
  wait_until 90 "the pod $1 ends" finished "$1" || return 1
  wait_until 10 "the log of the pod $1" k logs "$1"
  k logs "$1"; [ "$(k get pod "$1" -o jsonpath='{.status.phase}')" = Succeeded ]
}
from_pod() { # cluster arguments...
  local name=client-$RANDOM$RANDOM
  in_pod "$name" "$@" && pod_result "$name"
}
outside_address() { # service
  if [ $outside = service ]; then echo "$(k get service "$1" -o jsonpath='{.spec.clusterIP}'):3306"
  else
    local node; node=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
    echo "$node:$(k get service "$1" -o jsonpath='{.spec.ports[0].nodePort}')"
  fi
}
from_outside() { # cluster service command [arguments]
  local cluster=$1 address command=$3; address=$(outside_address "$2"); shift 3
  (while read -r line; do export "${line?}"; done < <(credentials "$cluster"); exec "$target/e2e-client" "$command" "$address" "$@")
}
open_to_outside() { [ $outside = service ] || k patch auroracluster "$1" --type merge -p '{"spec":{"service":{"type":"NodePort"}}}' >/dev/null; }
pods_of() { k get pods -l "app.kubernetes.io/instance=$1,app.kubernetes.io/component=instance" --sort-by=.metadata.name -o jsonpath='{range .items[*]}{.metadata.name}/{.metadata.uid}{"\n"}{end}'; }
events() { k get events.events.k8s.io -o jsonpath='{range .items[?(@.regarding.kind=="AuroraCluster")]}{.reason}{" "}{.note}{"\n"}{end}'; }
delete_cluster() { # leaves nothing but the volumes and what Kubernetes itself keeps
  local left
  k delete auroracluster "$1" --timeout=60s >/dev/null || return 1
  gone() { left=$(k get all,endpointslices,secrets,configmaps,poddisruptionbudgets,networkpolicies,controllerrevisions -l "app.kubernetes.io/instance=$1" -o name); [ -z "$left" ]; }
  wait_until 90 "everything of $1 is deleted" gone "$1" || { echo "$left"; return 1; }
  local volumes; volumes=$(k get pvc -l "app.kubernetes.io/instance=$1" -o name | wc -l)
  [ "$volumes" -gt 0 ] || { echo "the volumes are gone too"; return 1; }
  echo "$volumes volumes stay"
}
refused() { # sentence manifest-text
  local said; said=$(k apply -f - <<<"$2" 2>&1) && { echo "it was accepted"; return 1; }
  grep -qF -- "$1" <<<"$said" && echo "$1" || { echo "$said"; return 1; }
}
manifest() { printf 'apiVersion: borealis.dev/v1alpha1\nkind: AuroraCluster\nmetadata: {name: %s}\nspec: %s\n' "$1" "$2"; }
no_errors() { # what the operator logged
  local said; said=$(kubectl -n $system logs -l app.kubernetes.io/name=borealis-operator --tail=-1 | grep '"level":"ERROR"')
  [ -z "$said" ] || { echo "$said"; return 1; }
}

# load_while CLUSTER ENDPOINT COMMAND...: runs the command while a pod writes through the endpoint. Sets `output`,
# and `began`, when the command began; the figures of the load's last line are there as `value NAME`.
load_while() {
  local cluster=$1 endpoint=$2; shift 2
  in_pod writer "$cluster" load "$endpoint:3306" 15 "$(now_ms)"
  warm() { k logs writer 2>/dev/null | grep -q '^warm'; }
  wait_until 30 "some hundred writes" warm || return 1
  began=$(now_ms)
  "$@" >/dev/null 2>&1 || { echo "could not $*"; return 1; }
  output=$(pod_result writer) || { echo "$output"; return 1; }
  value() { tail -n 1 <<<"$output" | grep -o "$1 [0-9]*" | cut -d ' ' -f 2; }
  [ "$(value acknowledged)" -gt 200 ] || { echo "$output"; return 1; }
}
# failover CLUSTER ENDPOINT COMMAND...: how long no write was committed, and how long after the command began the
# first one was. Fails if one was lost, or if there was no interruption: then nothing was tested.
failover() {
  local output began
  load_while "$@" || return 1
  [ "$(value break_ended_unix_ms)" -ge "$began" ] || { echo "$output"; echo "nothing broke"; return 1; }
  echo "no write for $(value break_ms) ms; next one $(($(value break_ended_unix_ms) - began)) ms after the command; $(value acknowledged) acknowledged, $(value lost) lost"
}
# survivor CLUSTER ENDPOINT COMMAND...: no write through the endpoint may fail meanwhile.
survivor() {
  local output began
  load_while "$@" || return 1
  [ $(($(value refused) + $(value unknown))) = 0 ] || { echo "$output"; echo "a write failed"; return 1; }
  echo "no write failed; longest gap between two $(value longest_gap_ms) ms; $(value acknowledged) acknowledged, $(value lost) lost"
}
# new_writer CLUSTER OLD REASON: another instance writes, and the old one is back as a reader.
new_writer() {
  local writer reason
  moved() { writer=$(field "$1" .status.writer); [ -n "$writer" ] && [ "$writer" != "$2" ] && ready "$1"; }
  wait_until 60 "another writer than $2, and Ready" moved "$1" "$2" || return 1
  [ "$(field "$1" ".status.instances[?(@.name==\"$2\")].role")" = reader ] || { field "$1" .status.instances; return 1; }
  reason=$(field "$1" .status.lastFailover.reason)
  [[ $reason =~ ^($3)$ ]] || { echo "the reason is given as $reason, not $3"; return 1; }
  echo "$writer, epoch $(field "$1" .status.epoch), $reason in $(field "$1" .status.lastFailover.milliseconds) ms"
}

# --- the tests --------------------------------------------------------------------------------------------
install() {
  kubectl create namespace $namespace --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl label --overwrite namespace $namespace pod-security.kubernetes.io/enforce=restricted >/dev/null
  installed=1
  "$helm" upgrade --install borealis "$root/charts/borealis-operator" -n $system --create-namespace --wait --timeout 120s \
    --set image.repository="${image%:*}" --set image.tag="${image##*:}" --set image.pullPolicy=IfNotPresent >/dev/null
}
one_leader() {
  held() { [ -n "$(kubectl -n $system get lease borealis-operator -o jsonpath='{.spec.holderIdentity}')" ]; }
  wait_until 30 "the lease is held" held && kubectl -n $system get lease borealis-operator -o jsonpath='{.spec.holderIdentity}'
}
chart_cluster() { # the chart gives the same resource as a manifest
  "$helm" template --kube-version 1.33.0 chart "$root/charts/aurora-cluster" -n $namespace | k apply --dry-run=server -f -
}

manifests() {
  k apply -f - <<<"$(manifest fixed '{instances: 1, storage: {nodes: 3, size: 1Gi}}')" >/dev/null
  expect "no instances are refused" refused "instances must be 1 to 16" "$(manifest wrong '{instances: 0}')"
  expect "17 instances are refused" refused "instances must be 1 to 16" "$(manifest wrong '{instances: 17}')"
  expect "4 storage nodes are refused" refused "storage.nodes must be 3 or 6" "$(manifest wrong '{storage: {nodes: 4}}')"
  expect "tier 16 is refused" refused "promotion tiers must be 0 (first) to 15" "$(manifest wrong '{promotionTiers: {wrong-1: 16}}')"
  expect "tiers of strangers are refused" refused "promotionTiers must name instances" "$(manifest wrong '{promotionTiers: {other-1: 1}}')"
  expect "a change of mode is refused" refused "mode cannot change" "$(manifest fixed '{mode: MultiMaster, instances: 1, storage: {nodes: 3, size: 1Gi}}')"
  expect "a change of storage nodes is refused" refused "storage.nodes cannot change" "$(manifest fixed '{instances: 1, storage: {nodes: 6, size: 1Gi}}')"
  expect "an unknown field is refused" refused 'unknown field "spec.replicas"' "$(manifest wrong '{replicas: 3}')"
  expect "an unknown mode is refused" refused 'supported values: "SingleMaster", "MultiMaster"' "$(manifest wrong '{mode: Multi}')"
  expect "the cluster's chart is accepted" chart_cluster
  k delete auroracluster fixed --timeout=60s >/dev/null
}

small() {
  expect "small is Ready" apply_example small small || { flunk "small: the rest needs it"; return; }
  expect "small: a client in a pod connects through the cluster endpoint" from_pod small ping small-cluster:3306
  open_to_outside small
  expect "small: a client outside connects through the cluster endpoint" from_outside small small-cluster ping
  again() { # deleted and applied again before Kubernetes has deleted what it owned
    k delete auroracluster small --timeout=60s >/dev/null && apply_example small small && from_pod small ping small-cluster:3306
  }
  expect "small: deleted and at once applied again it is Ready, with the password of its new Secret" again
  expect "small: deletion leaves only the volumes" delete_cluster small
}

multi_master() {
  local n survivor_gap
  expect "orders is Ready" apply_example multi-master orders || { flunk "orders: the rest needs it"; return; }
  open_to_outside orders
  for n in 0 1 2; do
    expect "orders-$n: a client in a pod connects" from_pod orders ping "orders-$n:3306"
    expect "orders-$n: a client outside connects" from_outside orders "orders-$n" ping
  done
  no_cluster_endpoint() { ! k get service orders-cluster; }
  expect "orders has no cluster endpoint" no_cluster_endpoint
  expect "orders: a table is made" from_pod orders setup orders-0:3306
  expect "orders: an instance is deleted and a survivor writes on" \
    survivor orders orders-0 k delete pod orders-1 --wait=false
  expect "orders: an instance is killed and a survivor writes on" \
    survivor orders orders-0 k delete pod orders-2 --grace-period=0 --force
  expect "orders is Ready again" becomes_ready orders
  expect "orders: deletion leaves only the volumes" delete_cluster orders
}

single_master() {
  local writer began kept
  expect "shop is Ready" apply_example single-master shop || { flunk "shop: the rest needs it"; return; }
  open_to_outside shop
  expect "shop: a client in a pod connects through the cluster endpoint" from_pod shop ping shop-cluster:3306
  expect "shop: a client in a pod connects through the reader endpoint" from_pod shop ping shop-cluster-ro:3306
  expect "shop: a client in a pod connects to an instance" from_pod shop ping shop-1:3306
  expect "shop: a client outside connects through the cluster endpoint" from_outside shop shop-cluster ping
  expect "shop: a client outside connects through the reader endpoint" from_outside shop shop-cluster-ro ping
  expect "shop: a table is made" from_pod shop setup shop-cluster:3306

  writer=$(field shop .status.writer)
  expect "shop: kubectl delete pod of the writer" failover shop shop-cluster k delete pod "$writer" --wait=false
  expect "shop: there is a new writer, the old one is a reader" new_writer shop "$writer" Resigned
  writer=$(field shop .status.writer)
  expect "shop: kubectl delete pod --grace-period=0 --force of the writer" \
    failover shop shop-cluster k delete pod "$writer" --grace-period=0 --force
  expect "shop: there is a new writer, the old one is a reader" new_writer shop "$writer" "Resigned|Disconnected|Silent"
  writer=$(field shop .status.writer)
  expect "shop: a failover asked for by annotation" \
    failover shop shop-cluster k annotate auroracluster shop borealis.dev/failover-to=
  expect "shop: there is a new writer, the old one is a reader" new_writer shop "$writer" Resigned
  told() { grep -q "^$1 " <<<"$(events)"; }
  for began in WriterPromoted EndpointSwitched FailoverRequested BecameReady; do
    expect "shop: an Event tells $began" told $began
  done

  kept=$(pods_of shop)
  expect "shop is scaled to 4" k scale auroracluster shop --replicas=4
  expect "shop is Ready with 4" becomes_ready shop
  expect "shop: the new instance is reached" from_pod shop ping shop-3:3306
  expect "shop is scaled to 2" k scale auroracluster shop --replicas=2
  expect "shop is Ready with 2" becomes_ready shop
  instance_gone() { ! k get service shop-3 && ! k get pod shop-3; }
  expect "shop: the removed instance's endpoint is gone" wait_until 60 "shop-3 is gone" instance_gone
  same_pods() { [ "$(pods_of shop)" = "${kept%$'\n'*}" ]; }
  expect "shop: scaling restarted no instance that stays" wait_until 30 "the pods ${kept%$'\n'*}" same_pods
  expect "shop: deletion leaves only the volumes" delete_cluster shop
}

# under_faults CLUSTER: breaks it at random while clients outside use it, and judges what they saw.
under_faults() {
  "$target/e2e-check" kubernetes --namespace $namespace --cluster "$1" --through "$outside" \
    --seconds "${FAULT_SECONDS:-40}" ${FAULT_SEED:+--seed "$FAULT_SEED"} | tee >(cat >&3)
  [ "${PIPESTATUS[0]}" = 0 ]
}
faults() {
  local pair
  exec 3>&1 # What `expect` takes as a test's output is shown as it comes, too: long runs say how far they are.
  for pair in single-master:shop multi-master:orders; do
    expect "${pair#*:} is Ready" apply_example "${pair%:*}" "${pair#*:}" || continue
    open_to_outside "${pair#*:}"
    expect "${pair#*:}: nothing is lost or wrong under random faults" under_faults "${pair#*:}"
    expect "${pair#*:}: deletion leaves only the volumes" delete_cluster "${pair#*:}"
    k delete pvc -l "app.kubernetes.io/instance=${pair#*:}" >/dev/null
  done
}

find_kubernetes
load_images
expect "the operator is installed by its chart" install || finish
expect "one replica of the operator leads" one_leader
for group in "${groups[@]}"; do say "--- $group"; "$group"; done
expect "the operator logged no error" no_errors
finish

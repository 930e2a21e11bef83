#!/usr/bin/env bash
# Lints and renders both charts, with defaults and with everything switched on, and compares the chart's
# custom resource definition with the generated one (`gen.sh` writes it).
set -uo pipefail
charts=$(cd "$(dirname "$0")" && pwd)
definition=$charts/borealis-operator/templates/crds/auroraclusters.yaml
passed=0 failed=0

helm=$(command -v helm || echo "${XDG_CACHE_HOME:-$HOME/.cache}/borealis/bin/helm")
if [ ! -x "$helm" ]; then
  echo "no helm: install it, or build it with e2e/cluster/build.sh" >&2
  echo "0 passed, 0 failed, 1 skipped"; exit 0
fi
check() { # name command...
  local name=$1 output; shift
  if output=$("$@" 2>&1); then passed=$((passed + 1)); echo "ok    $name"
  else failed=$((failed + 1)); echo "FAIL  $name"; sed 's/^/      /' <<<"$output"; fi
}
# Helm renders for the version it was built with unless told one.
render() { "$helm" template --kube-version 1.33.0 "$@"; }
refused() { ! "$@"; }
holds() { # text command...
  local text=$1; shift; "$@" | grep -qF -- "$text"; }
operator=$charts/borealis-operator cluster=$charts/aurora-cluster
everything=(--set serviceMonitor.enabled=true)
check "the chart's definition is the generated one" diff <("$charts/gen.sh" --print) "$definition"
check "the operator's chart lints" "$helm" lint --strict --quiet "$operator"
check "the cluster's chart lints" "$helm" lint --strict --quiet "$cluster"
check "the operator's chart renders" render borealis "$operator"
check "the operator's chart renders for one namespace" \
  render borealis "$operator" --set watchNamespace=shop "${everything[@]}"
check "for one namespace there is no ClusterRole" refused holds ClusterRole \
  render borealis "$operator" --set watchNamespace=shop
check "the definition is kept on uninstall" holds 'helm.sh/resource-policy: keep' \
  render borealis "$operator"
check "the definition can be left out" refused holds CustomResourceDefinition \
  render borealis "$operator" --set crds.create=false
check "an unknown value is refused" refused render borealis "$operator" --set replica=1
check "the cluster's chart renders" render shop "$cluster"
check "the cluster's chart renders with everything" render shop "$cluster" "${everything[@]}" \
  --set networkPolicy.enabled=true,mode=MultiMaster,parameters.max_connections=200,storage.nodes=3
check "numbers become text in parameters" holds 'max_connections: "200"' \
  render shop "$cluster" --set parameters.max_connections=200
check "no instances are refused" refused render shop "$cluster" --set instances=0
check "four storage nodes are refused" refused render shop "$cluster" --set storage.nodes=4
check "tier 16 is refused" refused render shop "$cluster" --set promotionTiers.shop-1=16
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# Writes the chart's copy of the custom resource definition: the generated one, switchable and kept when the
# chart is uninstalled. With `--print` to standard output instead.
set -euo pipefail
charts=$(cd "$(dirname "$0")" && pwd)
wrapped() {
  echo '{{- if .Values.crds.create }}'
  awk '{ print } /^metadata:/ { print "  annotations:\n    helm.sh/resource-policy: keep" }' "$charts/../crds/yaml/auroraclusters.yaml"
  echo '{{- end }}'
}
case ${1:-} in
  --print) wrapped ;;
  *) wrapped >"$charts/borealis-operator/templates/crds/auroraclusters.yaml" ;;
esac

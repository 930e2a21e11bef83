#!/usr/bin/env bash
# Installs the node packages and builds Kubernetes, Helm and CoreDNS from their Go modules into
# the cache, once per machine (about 15 minutes on two cores; a second run takes seconds).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); bin=${XDG_CACHE_HOME:-$HOME/.cache}/borealis/bin; mkdir -p "$bin"
version=v1.37.2 v=k8s.io/component-base/version
[ "$(id -u)" = 0 ] || { echo "$0: needs root to install packages" >&2; exit 1; }
for tool in go gcc python3 openssl kubectl; do
  command -v $tool >/dev/null || { echo "$0: needs $tool on the PATH" >&2; exit 1; }; done
need=(); for p in containerd runc containernetworking-plugins nftables iptables conntrack iproute2 busybox-static; do
  dpkg -s $p >/dev/null 2>&1 || need+=($p); done
[ ${#need[@]} -eq 0 ] || { apt-get update -qq; apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null; }
export CGO_ENABLED=0
say() { [ -x "$bin/$1" ] || echo "building $1 ($2)"; }
say kube "Kubernetes: about ten minutes"
[ -x "$bin/kube" ] || (cd "$here/kube" && go build -trimpath -ldflags "-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=37" -o "$bin/kube" .)
say helm "two minutes"
[ -x "$bin/helm" ] || GOBIN=$bin go install -trimpath -ldflags "-s -w" helm.sh/helm/v3/cmd/helm@v3.22.0
say coredns "three minutes"
[ -x "$bin/coredns" ] || GOBIN=$bin go install -trimpath -ldflags "-s -w" github.com/coredns/coredns@v1.15.0
[ -x "$bin/pause" ] || gcc -static -O2 -o "$bin/pause" "$here/pause.c"
python3 "$here/mkimage.py" "$bin/pause.tar" localhost/pause:dev /bin/pause "$bin/pause:/bin/pause"
python3 "$here/mkimage.py" "$bin/coredns.tar" localhost/coredns:dev /bin/coredns "$bin/coredns:/bin/coredns"
python3 "$here/mkimage.py" "$bin/busybox.tar" localhost/busybox:dev /bin/busybox /bin/busybox:/bin/busybox /bin/busybox:/bin/sh

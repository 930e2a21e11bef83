#!/usr/bin/env bash
# A real multi-node Kubernetes on one Linux machine, without Docker: every node is a network
# namespace with its own containerd, kubelet and kube-proxy; the control plane runs on the host.
# Node i is bnode$i in zone-$i at 10.91.0.1$i. See README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
BIN=${XDG_CACHE_HOME:-$HOME/.cache}/borealis/bin; DIR=${BOREALIS_KUBE_DIR:-/tmp/borealis-kube}; BR=borealis0
NET=10.91.0; SVC=10.97.0.0/16; PODS=10.246
usage() {
  cat >&2 <<X
usage: $0 COMMAND
  up [NODES]        bring a Kubernetes up, 3 nodes in 3 zones unless told otherwise (1 to 9)
  load IMAGE.tar... put images into every node
  cut I | mend I    take node I's network away, and give it back
  kill I            kill everything on node I outright
  kubeconfig        print where the administrator's kubeconfig is
  down              remove it all
X
  exit 2; }
fail() { echo "$0: $*" >&2; exit 1; }
export KUBECONFIG=$DIR/admin.conf
bg() { local name=$1; shift; setsid nohup "$@" >"$DIR/log/$name.log" 2>&1 </dev/null & echo $! >"$DIR/pid/$name"; }
cert() { # name subject [san]
  openssl req -newkey rsa:2048 -nodes -keyout pki/$1.key -out pki/$1.csr -subj "$2" 2>/dev/null
  openssl x509 -req -in pki/$1.csr -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -days 365 -out pki/$1.crt \
    -extfile <(printf 'subjectAltName=%s\n' "${3:-DNS:$1}") 2>/dev/null; }
conf() { # user file
  kubectl config --kubeconfig=$2 set-cluster lab --server=https://$NET.1:6443 --certificate-authority=pki/ca.crt --embed-certs >/dev/null
  kubectl config --kubeconfig=$2 set-credentials u --client-certificate=pki/$1.crt --client-key=pki/$1.key --embed-certs >/dev/null
  kubectl config --kubeconfig=$2 set-context lab --cluster=lab --user=u >/dev/null; kubectl config --kubeconfig=$2 use-context lab >/dev/null; }
wait_for() { for _ in $(seq 120); do "$@" >/dev/null 2>&1 && return 0; sleep .25; done; echo "timed out: $*" >&2; return 1; }

up() {
  local n=${1:-3}; [[ $n =~ ^[1-9]$ ]] || usage
  [ "$(id -u)" = 0 ] || fail "needs root: nodes are network namespaces"
  [ -x "$BIN/kube" ] && [ -e "$BIN/coredns.tar" ] || fail "$BIN is incomplete: run $here/build.sh first"
  [ ! -e "$DIR" ] || fail "$DIR exists: run '$0 down' first"
  ! ip link show $BR >/dev/null 2>&1 || fail "the bridge $BR exists: another cluster of this kind is up"
  mkdir -p "$DIR"/{pki,log,pid}; cd "$DIR"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  ip link show $BR >/dev/null 2>&1 || ip link add $BR type bridge; ip addr replace $NET.1/24 dev $BR; ip link set $BR up
  # service addresses that nothing translates end here, and never leave the machine
  ip link add borealis-svc type bridge 2>/dev/null || true; ip link set borealis-svc up; ip route replace $SVC dev borealis-svc
  openssl req -x509 -newkey rsa:2048 -nodes -keyout pki/ca.key -out pki/ca.crt -days 365 -subj /CN=borealis-kube 2>/dev/null
  cert apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.97.0.1,IP:$NET.1"
  cert admin /O=system:masters/CN=admin; cert kcm /CN=system:kube-controller-manager; cert sched /CN=system:kube-scheduler; cert proxy /CN=system:kube-proxy
  openssl genrsa -out pki/sa.key 2048 2>/dev/null; openssl rsa -in pki/sa.key -pubout -out pki/sa.pub 2>/dev/null
  conf admin admin.conf; for u in kcm sched proxy; do conf $u $u.conf; done
  bg etcd $BIN/kube etcd --data-dir etcd --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
  bg apiserver $BIN/kube apiserver --etcd-servers=http://127.0.0.1:2379 --service-cluster-ip-range=$SVC --client-ca-file=pki/ca.crt \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --service-account-key-file=pki/sa.pub \
    --service-account-signing-key-file=pki/sa.key --service-account-issuer=https://kubernetes.default.svc --authorization-mode=Node,RBAC \
    --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key --kubelet-preferred-address-types=InternalIP \
    --allow-privileged --advertise-address=$NET.1 --bind-address=0.0.0.0
  wait_for kubectl get --raw /readyz
  bg kcm $BIN/kube controller-manager --kubeconfig=kcm.conf --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt \
    --use-service-account-credentials --leader-elect=false --node-monitor-grace-period=8s --node-monitor-period=1s
  bg sched $BIN/kube scheduler --kubeconfig=sched.conf --leader-elect=false
  for i in $(seq "$n"); do node "$i"; done
  for i in $(seq "$n"); do for j in $(seq "$n"); do [ "$i" = "$j" ] || ip -n bnode$i route replace $PODS.$j.0/24 via $NET.1$j; done; ip route replace $PODS.$i.0/24 via $NET.1$i; done
  bg proxy $BIN/kube proxy --kubeconfig=proxy.conf --proxy-mode=nftables --cluster-cidr=$PODS.0.0/16 --hostname-override=host --nodeport-addresses=127.0.0.0/8
  for i in $(seq "$n"); do
    wait_for kubectl get node bnode$i; kubectl label --overwrite node bnode$i topology.kubernetes.io/zone=zone-$i >/dev/null; done
  kubectl wait --for=condition=Ready node --all --timeout=60s >/dev/null
  load $BIN/coredns.tar $BIN/busybox.tar; volumes "$n"
  kubectl apply -f $here/coredns.yaml >/dev/null; kubectl -n kube-system rollout status deploy/coredns --timeout=60s >/dev/null
}

node() {
  local i=$1 ns=bnode$1 d=$DIR/node$1 ip=$NET.1$1; mkdir -p $d/cni; cd "$DIR"
  ip netns add $ns; ip link add v$ns type veth peer name eth0 netns $ns; ip link set v$ns master $BR up
  ip -n $ns link set lo up; ip -n $ns addr add $ip/24 dev eth0; ip -n $ns link set eth0 up; ip -n $ns route add default via $NET.1
  ip netns exec $ns sysctl -qw net.ipv4.ip_forward=1
  ip -n $ns link add borealis-svc type bridge; ip -n $ns link set borealis-svc up; ip -n $ns route add $SVC dev borealis-svc
  cert kubelet$i /O=system:nodes/CN=system:node:$ns "DNS:$ns,IP:$ip"; conf kubelet$i $d/kubelet.conf
  cat >$d/containerd.toml <<X
version = 2
root = "$d/root"
state = "$d/state"
[grpc]
  address = "$d/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:dev"
  restrict_oom_score_adj = true   # without CAP_SYS_RESOURCE runc cannot lower it
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$d/cni"
X
  cat >$d/cni/10-lab.conflist <<X
{"cniVersion":"0.4.0","name":"lab","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,"hairpinMode":true,
 "ipam":{"type":"host-local","dataDir":"$d/ipam","ranges":[[{"subnet":"$PODS.$i.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}
X
  cat >$d/kubelet.yaml <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /$ns
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://$d/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $DIR/pki/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: [10.97.0.10]
clusterDomain: cluster.local
tlsCertFile: $DIR/pki/kubelet$i.crt
tlsPrivateKeyFile: $DIR/pki/kubelet$i.key
podLogsDir: $d/podlogs   # each kubelet tidies its own: in a shared directory it would delete the others'
nodeStatusUpdateFrequency: 2s
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}
imageGCHighThresholdPercent: 100
X
  for c in /sys/fs/cgroup/*/; do mkdir -p $c$ns 2>/dev/null || true; done
  [ -d /sys/fs/cgroup/cpuset/$ns ] && { cat /sys/fs/cgroup/cpuset/cpuset.cpus >/sys/fs/cgroup/cpuset/$ns/cpuset.cpus; cat /sys/fs/cgroup/cpuset/cpuset.mems >/sys/fs/cgroup/cpuset/$ns/cpuset.mems; }
  bg containerd$i nsenter --net=/run/netns/$ns containerd -c $d/containerd.toml
  wait_for test -S $d/containerd.sock
  wait_for ctr -a $d/containerd.sock -n k8s.io images import $BIN/pause.tar
  bg kubelet$i nsenter --net=/run/netns/$ns $BIN/kube kubelet --config=$d/kubelet.yaml --kubeconfig=$d/kubelet.conf --hostname-override=$ns --node-ip=$ip --root-dir=$d/kubelet
  bg proxy$i nsenter --net=/run/netns/$ns $BIN/kube proxy --kubeconfig=proxy.conf --proxy-mode=nftables --cluster-cidr=$PODS.0.0/16 --hostname-override=$ns --nodeport-addresses=127.0.0.0/8
}

# local volumes, eight a node, bound when a pod first needs one
volumes() { { printf '%s\n' 'apiVersion: storage.k8s.io/v1' 'kind: StorageClass' 'metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}' 'provisioner: kubernetes.io/no-provisioner' 'volumeBindingMode: WaitForFirstConsumer'
  for i in $(seq "$1"); do for v in $(seq 8); do mkdir -m 777 -p $DIR/node$i/volumes/$v; echo ---
    printf '%s\n' 'apiVersion: v1' 'kind: PersistentVolume' "metadata: {name: bnode$i-$v}" "spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, storageClassName: local, local: {path: $DIR/node$i/volumes/$v}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [bnode$i]}]}]}}}"
  done; done; } | kubectl apply -f - >/dev/null; }

cut_node() { ip link set vbnode$1 down; }
mend_node() { ip link set vbnode$1 up; }
kill_node() {
  { ps -eo pid,args | awk -v d="$DIR/node$1/" 'index($0,d) && !/awk/ {print $1}'
    find /sys/fs/cgroup/pids/bnode$1 /sys/fs/cgroup/bnode$1 -name cgroup.procs -exec cat {} + 2>/dev/null; } | xargs -r kill -9 2>/dev/null || true; }

load() { for t; do for d in $DIR/node*; do ctr -a $d/containerd.sock -n k8s.io images import $t >/dev/null; done; done; }

down() { set +e
  for p in $(ps -eo pid,args | awk -v b="$BIN/kube " -v d="$DIR/" 'index($0,b) || (/ containerd /||/^ *[0-9]+ containerd/) && index($0,d) {print $1}'); do kill -9 $p; done 2>/dev/null
  for s in $(ps -eo pid,args | awk -v d="$DIR/" 'index($0,"containerd-shim") && index($0,d) {print $1}'); do kill -9 $s; done 2>/dev/null
  find /sys/fs/cgroup/pids/bnode* /sys/fs/cgroup/bnode* -name cgroup.procs -exec cat {} + 2>/dev/null | xargs -r kill -9 2>/dev/null
  for ns in $(ip netns list | awk '/^(bnode|cni-)/{print $1}'); do ip netns pids $ns | xargs -r kill -9; ip link del v$ns; ip netns del $ns; done
  sleep 1; awk -v d="$DIR/" 'index($2,d)==1{print $2}' /proc/mounts | sort -r | xargs -r umount -l
  find /sys/fs/cgroup/*/bnode* -depth -type d -exec rmdir {} + 2>/dev/null
  ip link del $BR; ip link del borealis-svc; nft delete table ip kube-proxy; nft delete table ip6 kube-proxy
  rm -rf "$DIR"; } 2>/dev/null
command=${1:-}; shift || true
case $command in
  up) up "$@" ;;
  load | down) "$command" "$@" ;;
  cut | mend | kill) [ -d "$DIR/node${1:-none}" ] || fail "there is no node ${1:-}"; "${command}_node" "$1" ;;
  kubeconfig) echo "$DIR/admin.conf" ;;
  *) usage ;;
esac

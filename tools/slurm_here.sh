#!/bin/sh
# A Slurm cluster of two nodes on this computer, for tests: both nodes are simulated by slurmd -N.
#   sh tools/slurm_here.sh start FOLDER     starts munged, slurmctld and two slurmd; all files go into FOLDER
#   sh tools/slurm_here.sh stop FOLDER      stops them
# After the start, FOLDER/bin has Slurm's commands for this cluster: PATH=FOLDER/bin:$PATH
# It needs Debian's packages: apt-get install slurm-wlm munge. It runs as root or as any user.
set -u
[ $# -eq 2 ] || { sed -n '2,6s/^# *//p' "$0" >&2; exit 2; }
PATH=$PATH:/usr/sbin:/sbin
action=$1
mkdir -p "$2" && chmod 755 "$2" && folder=$(cd "$2" && pwd) || exit 1
port=${SLURM_PORT:-27817} # and the next two

fail() {
    printf 'slurm_here: %s\n' "$1" >&2
    exit 1
}

stop() {
    for name in slurmd-node1 slurmd-node2 slurmctld munged; do
        [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null
    done
    sleep 1
    rm -f "$folder"/*.pid
}

configure() {
    nodes_memory=${NODE_MB:-$(($(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo) / 2))}
    nodes_cpus=$(nproc)
    cat >"$folder/slurm.conf" <<CONF
ClusterName=msxai
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
# Without cgroups, which need a system of their own: memory is looked at every second.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
# A job goes to the node that has less to do.
SelectTypeParameters=CR_CPU_Memory,CR_LLN
GresTypes=gpu
SchedulerParameters=bf_interval=5
MpiDefault=none
MinJobAge=86400
KillWait=5
ReturnToService=2
NodeName=node1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=$nodes_cpus RealMemory=$nodes_memory Gres=gpu:1
NodeName=node2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=$nodes_cpus RealMemory=$nodes_memory
PartitionName=simulated Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
CONF
    # A graphics processor that is only counted: an empty device stands for it.
    echo "NodeName=node1 Name=gpu File=/dev/null" >"$folder/gres.conf"
    rm -rf "$folder/state" "$folder"/spool-* # what earlier jobs have left
    mkdir "$folder/state" "$folder/spool-node1" "$folder/spool-node2"
}

# Commands that know their cluster. A variable, SLURM_CONF, is not enough: Snakemake takes it out of a job's environment.
write_commands() {
    mkdir -p "$folder/bin"
    for name in sbatch srun squeue scancel sinfo scontrol sacct sacctmgr sshare; do
        program=$(command -v "$name") || continue
        printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "'$folder/slurm.conf'" "$program" >"$folder/bin/$name"
        chmod 755 "$folder/bin/$name"
    done
}

start() {
    for program in munged slurmctld slurmd sbatch; do
        command -v "$program" >/dev/null || fail "$program is missing. To get it: apt-get install slurm-wlm munge"
    done
    stop
    configure
    write_commands
    [ -f "$folder/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" 2>/dev/null || fail "munged does not start; see $folder/munged.log"
    SLURM_CONF=$folder/slurm.conf
    export SLURM_CONF
    slurmctld || fail "slurmctld does not start; see $folder/slurmctld.log"
    slurmd -N node1 && slurmd -N node2 || fail "slurmd does not start; see $folder/slurmd-node1.log"
    for second in $(seq 30); do
        [ "$(sinfo --noheader --states=idle --format=%D 2>/dev/null)" = 2 ] && break
        [ "$second" = 30 ] && fail "the nodes are not ready after 30 s; see $folder/slurmctld.log"
        sleep 1
    done
    echo "slurm_here: two nodes are ready. Use them with: PATH=$folder/bin:\$PATH"
}

case $action in
start | stop) "$action" ;;
*) fail "found the action $action; expected start or stop" ;;
esac

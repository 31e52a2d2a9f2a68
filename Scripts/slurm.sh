#!/usr/bin/env bash
# A Slurm of one node in a folder of its own, with its own configuration, keys and ports, beside any
# other that the machine may have. Needs root, and what `Scripts/setup.sh slurmctld slurmd
# slurm-client munge` installs.
#
#   Scripts/slurm.sh start FOLDER [PORT]   prints SLURM_CONF=FILE, which Slurm's commands need
#   Scripts/slurm.sh stop FOLDER
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

die() {
    echo "slurm: $*" >&2
    exit 1
}

start() {
    local folder=$1 port=$2 name tool
    [ "$(id -u)" -eq 0 ] || die "root is needed"
    for tool in munged slurmctld slurmd sbatch; do
        command -v "$tool" >/dev/null || die "there is no $tool:" \
            "Scripts/setup.sh slurmctld slurmd slurm-client munge"
    done
    name=$(hostname -s)
    mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
    chmod 700 "$folder/munge"
    head -c 1024 /dev/urandom >"$folder/munge/key"
    chmod 400 "$folder/munge/key"
    # No control groups: containers often lack them.
    cat >"$folder/slurm.conf" <<END
ClusterName=penumbra
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    echo "CgroupAutomount=no" >"$folder/cgroup.conf"
    export SLURM_CONF="$folder/slurm.conf"
    # Whatever is started does not keep the caller's streams open.
    local log="$folder/start.log"
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" \
        --seed-file="$folder/munge/seed" </dev/null >>"$log" 2>&1 ||
        die "munged does not start: $(tail -n 1 "$log")"
    slurmctld -c </dev/null >>"$log" 2>&1 || die "slurmctld does not start: $(tail -n 1 "$log")"
    slurmd -c </dev/null >>"$log" 2>&1 || die "slurmd does not start: $(tail -n 1 "$log")"
    local try
    for try in $(seq 150); do
        if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then
            echo "SLURM_CONF=$folder/slurm.conf"
            return
        fi
        sleep 0.2
    done
    die "the node does not come up: $(tail -n 1 "$folder/slurmctld.log")"
}

# Ends each process that has a file with its number.
stop() {
    local folder=$1 file number
    for file in "$folder"/slurmd.pid "$folder"/slurmctld.pid "$folder"/munge/pid; do
        [ -s "$file" ] || continue
        number=$(cat "$file")
        kill "$number" 2>/dev/null || continue
        for _ in $(seq 50); do
            kill -0 "$number" 2>/dev/null || break
            sleep 0.1
        done
    done
}

case "${1:-}" in
start) [ $# -ge 2 ] || die "start FOLDER [PORT]"; start "$2" "${3:-17817}" ;;
stop) [ $# -eq 2 ] || die "stop FOLDER"; stop "$2" ;;
*) die "start FOLDER [PORT], or stop FOLDER" ;;
esac

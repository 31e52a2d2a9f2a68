# Runs workloads, one after the other: "fork 1000; cow 200 all". `compile FILES` is a script, all
# others are the program `workload`. It prints WORKLOADS-OK only where each of them ended well.

cd /tmp || exit 1
IFS=';'
for line in $1; do
    unset IFS
    set -- $line
    [ "$#" -gt 0 ] || continue
    case "$1" in
        compile) sh /scripts/compile.sh "$2" ;;
        *) workload "$@" ;;
    esac || { echo "GUEST-FAILED: workload '$*' ended with status $?"; exit 1; }
done
echo WORKLOADS-OK

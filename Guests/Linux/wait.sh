# Waits for a line on the console, workloads to be run, at a point where a machine can be saved: region
# 65535 begins there.
mark begin 65535
mark end 65535
read -r line || { echo "GUEST-FAILED: the console gave no line"; exit 1; }
sh /scripts/workloads.sh "$line"

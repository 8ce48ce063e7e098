# What differs between kernels, as reported by this one: lines of
#   FACT name value
echo "+memory +cpu" > /sys/fs/cgroup/cgroup.subtree_control
kernel-facts

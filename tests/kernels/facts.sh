# What differs from kernel to kernel, as this one tells it: lines of
#   FACT name value
echo "+memory +cpu" > /sys/fs/cgroup/cgroup.subtree_control
kernel-facts

#!/usr/bin/perl
# System calls on a process that a shell cannot make, because they need a descriptor or a register.
#   signal NAME PID START        sends a signal through a pidfd, to that process and no other
#   freeze PID TID START READY   stops one thread and lets the others run, until it is ended;
#                                creates the file READY once the thread is stopped
#   end PID TID START            has one thread make the system call exit, as at the end of its life
# START is field 22 of stat, of the process or of the thread. Needs nothing but perl-base.
# On failure one sentence on stderr and exit code 1.
use strict;
use warnings;

# Numbers of linux/ptrace.h, sys/wait.h and asm/unistd_64.h. pidfd_* have one number everywhere.
use constant {
    GETREGS => 12, SETREGS => 13, DETACH => 17, SEIZE => 0x4206, INTERRUPT => 0x4207,
    ALL_THREADS => 0x40000000, PIDFD_SEND_SIGNAL => 424, PIDFD_OPEN => 434,
};
my %signals = (CONT => 18, STOP => 19, TERM => 15, KILL => 9);
# How long a thread may take to stop: one in an uninterruptible sleep never does.
my $patience = 5;

sub fail { print STDERR "@_\n"; exit 1 }

sub slurp {
    open my $file, '<:raw', $_[0] or return '';
    local $/;
    return scalar(<$file>) // '';
}

sub start_of {
    my $stat = slurp("/proc/$_[0]/stat");
    $stat =~ s/^.*\) //s;
    return (split ' ', $stat)[19] // '';
}

sub signal {
    my ($name, $pid, $start) = @_;
    my $fd = syscall(PIDFD_OPEN, int $pid, 0);
    fail("process $pid has ended") if $fd < 0;
    # The descriptor always refers to this process, so one check after opening it is enough.
    fail("process $pid is another one by now") if start_of($pid) ne $start;
    syscall(PIDFD_SEND_SIGNAL, $fd, $signals{$name}, 0, 0) == 0 or fail("$name to process $pid: $!");
}

sub ptrace {
    # The call writes to its fourth argument in place.
    my ($request, $tid, $address) = @_;
    fail('it knows the system calls of x86_64 alone') if (slurp('/proc/sys/kernel/arch') || `uname -m`) !~ /x86_64/;
    return syscall(101, $request, int $tid, $address, $_[3]) >= 0;
}

# Stops one thread. The kernel releases it when this process ends, however it ends.
sub hold {
    my ($pid, $tid, $start) = @_;
    ptrace(SEIZE, $tid, 0, 0) or fail($!{EPERM}
        ? "thread $tid may not be traced: it has a tracer already (gdb, strace), or this needs CAP_SYS_PTRACE: run it as root"
        : "thread $tid: $!");
    fail("thread $tid is another one by now") if start_of("$pid/task/$tid") ne $start;
    ptrace(INTERRUPT, $tid, 0, 0) or fail("thread $tid: $!");
    local $SIG{ALRM} = sub { fail("thread $tid does not stop: it is in an uninterruptible sleep") };
    alarm $patience;
    waitpid($tid, ALL_THREADS) == $tid or fail("thread $tid ended");
    alarm 0;
    # Perl cannot distinguish a stop from an end, so the kernel is queried.
    fail("thread $tid ended") if slurp("/proc/$pid/task/$tid/stat") !~ /\) t [^)]*$/;
}

# An address at which the process has the instruction `syscall`: where the thread waits in one, else
# in the kernel's own page, which every process has.
sub instruction {
    my ($pid, $at) = @_;
    my @ranges = ([$at - 2, $at]);
    for (split /\n/, slurp("/proc/$pid/maps")) {
        push @ranges, [hex $1, hex $2] if /^([0-9a-f]+)-([0-9a-f]+) r-x.*\[vdso\]$/;
    }
    open my $memory, '<:raw', "/proc/$pid/mem" or fail("memory of process $pid: $!");
    for my $range (@ranges) {
        sysseek $memory, $range->[0], 0 or next;
        my $bytes = '';
        sysread $memory, $bytes, $range->[1] - $range->[0] or next;
        my $found = index $bytes, "\x0f\x05";
        return $range->[0] + $found if $found >= 0;
    }
    fail("process $pid has no page of the kernel's (vdso) to call exit from");
}

sub end_thread {
    my ($pid, $tid, $start) = @_;
    hold(@_);
    # struct user_regs_struct: 27 words, these four by their place.
    my ($rax, $rdi, $orig_rax, $rip) = (10, 14, 15, 16);
    my $registers = "\0" x (27 * 8);
    ptrace(GETREGS, $tid, 0, $registers) or fail("registers of thread $tid: $!");
    my @registers = unpack 'Q27', $registers;
    $registers[$rip] = instruction($pid, $registers[$rip]);
    # 60 is exit, for this thread alone. No call must be restarted: that would be the interrupted
    # one.
    @registers[$rax, $rdi, $orig_rax] = (60, 0, ~0);
    $registers = pack 'Q27', @registers;
    ptrace(SETREGS, $tid, 0, $registers) or fail("registers of thread $tid: $!");
    ptrace(DETACH, $tid, 0, 0) or fail("thread $tid: $!");
}

my ($what, @arguments) = @ARGV;
if ($what eq 'signal') {
    signal(@arguments);
} elsif ($what eq 'freeze') {
    my $ready = pop @arguments;
    hold(@arguments);
    open my $file, '>', $ready or fail("$ready: $!");
    # Until it is told to end, or its pipe is closed.
    sleep 1 while 1;
} elsif ($what eq 'end') {
    end_thread(@arguments);
} else {
    fail('ptrace.pl signal | freeze | end');
}

#!/usr/bin/perl
# The two ends of HTTP that nobody likes: a client that floods and a server that hangs.
#   try URL                   connects once, and says why not
#   flood URL CONNECTIONS READY
#   hang ADDRESS:PORT READY
# Each creates the file READY once it is active, and continues until it is ended. Needs nothing but
# perl-base. On failure one sentence on stderr and exit code 1.
use strict;
use warnings;
use IO::Socket::IP;

# Connections that a listener holds: beyond these they wait in the backlog, which is the same to
# them.
my $most = 1024;
# How long one request may take, seconds.
my $patience = 5;

sub fail { print STDERR "@_\n"; exit 1 }

sub ready {
    open my $file, '>', $_[0] or fail("$_[0]: $!");
}

sub split_url {
    my ($host, $port, $path) = $_[0] =~ m{^http://(\[[0-9a-f:]+\]|[^/:]+)(?::(\d+))?(/\S*)?$}i
        or fail("$_[0] is no such URL: http://127.0.0.1:9611/metrics is one");
    $host =~ tr/[]//d;
    # A foreign host name may begin like an address.
    $host =~ /^(127(\.\d{1,3}){3}|::1|localhost)$/ or fail("$host is no address of loopback: 127.0.0.1, [::1] or localhost");
    return ($host, $port // 80, $path // '/');
}

sub dial {
    my ($host, $port) = @_;
    return IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Timeout => $patience);
}

sub flood {
    my ($url, $connections, $ready) = @_;
    my ($host, $port, $path) = split_url($url);
    my $name = $host =~ /:/ ? "[$host]:$port" : "$host:$port";
    my @silent = map { dial($host, $port) // () } 1 .. $connections;
    # The last of them is this process itself.
    for (2 .. $connections) {
        my $child = fork // last;
        last if $child == 0;
    }
    ready($ready);
    $SIG{PIPE} = 'IGNORE';
    $SIG{ALRM} = sub { die "late\n" };
    while (1) {
        eval {
            alarm $patience;
            my $socket = dial($host, $port) or die "refused\n";
            print $socket "GET $path HTTP/1.1\r\nHost: $name\r\nConnection: close\r\n\r\n";
            1 while sysread $socket, my $answer, 65536;
        };
        # A server that refuses is asked again, but without using all CPU time.
        select undef, undef, undef, 0.01 if $@;
    }
}

sub hang {
    my ($address, $ready) = @_;
    split_url("http://$address");
    my $listener = IO::Socket::IP->new(LocalAddr => $address, Listen => 128, ReuseAddr => 1)
        or fail("$address cannot be listened on: $@");
    ready($ready);
    my @held;
    while (1) {
        my $taken = $listener->accept or next;
        push @held, $taken;
        sleep 1 while @held >= $most;
    }
}

my ($what, @arguments) = @ARGV;
if ($what eq 'try') {
    my ($host, $port) = split_url(@arguments);
    dial($host, $port) or fail("nobody listens on $host port $port: $!");
} elsif ($what eq 'flood') {
    flood(@arguments);
} elsif ($what eq 'hang') {
    hang(@arguments);
} else {
    fail('http.pl try | flood | hang');
}

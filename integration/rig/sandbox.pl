# Runs a program in a root directory of its own: sandbox.pl MOUNT UNSHARE DIRECTORY USER GROUP ROOT EMPTY BINDS
# [PLACE OUTSIDE]... VARIABLES [NAME=VALUE]... PROGRAM [ARGUMENT]... The root directory is put together on the directory
# EMPTY, of BINDS directories OUTSIDE, at their places in it, and of what else ROOT has. Run it in a mount namespace.
# VARIABLES is how many variables there are. MOUNT and UNSHARE are those system calls' numbers, the second where only a user
# namespace can give USER and GROUP, else 0; so is USER where nothing is to change.
use strict;
my ($mount, $unshare, $directory, $user, $group, $root, $new, $binds) = splice @ARGV, 0, 8;
my %places = splice @ARGV, 0, 2 * $binds;
%ENV = map { split /=/, $_, 2 } splice @ARGV, 0, shift @ARGV;

sub mounted { # FROM PLACE FLAGS [TYPE DATA], as mount(2) has them
    my ($from, $place, $flags, $type, $data) = @_;
    my $done = defined $type ? syscall($mount + 0, $from, $place, $type, $flags, $data)
        : syscall($mount + 0, $from, $place, 0, $flags, 0);
    $done == 0 or die "mounting $from on $place: $!\n";
}

sub show { # OUTSIDE PLACE
    my ($outside, $place) = ($_[0], $new . $_[1]);
    if (-l $outside) {
        symlink readlink($outside), $place or die "linking $place: $!\n";
    } elsif (-d $outside) {
        for (my $end = length $new; ($end = index "$place/", "/", $end + 1) > 0;) {
            my $above = substr $place, 0, $end;
            -d $above or mkdir $above or die "making $above: $!\n";
        }
        mounted($outside, $place, 0x5000); # MS_BIND | MS_REC
    } elsif (-f $outside) {
        open my $file, ">", $place or die "making $place: $!\n";
        mounted($outside, $place, 0x1000); # MS_BIND
    }
}

mounted("tmpfs", $new, 0, "tmpfs", "mode=755");
show($places{$_}, $_) for sort keys %places;
opendir my $entries, "$root/" or die "reading $root: $!\n";
for (readdir $entries) {
    show("$root/$_", "/$_") unless /^\.\.?$/ || -e "$new/$_" || -l "$new/$_";
}
chdir $new or die "entering $new: $!\n";
mounted(".", "/", 0x2000); # MS_MOVE: a plain chroot would deny the program user namespaces of its own
chroot "." and chdir $directory or die "entering $directory: $!\n";
if ($user && $unshare) {
    syscall($unshare + 0, 0x10000000) == 0 or die "making a user namespace: $!\n"; # CLONE_NEWUSER
    for (["setgroups", "deny"], ["uid_map", "$user 0 1"], ["gid_map", "$group 0 1"]) {
        open my $file, ">", "/proc/self/$_->[0]" or die "opening $_->[0]: $!\n";
        syswrite $file, $_->[1] or die "writing $_->[0]: $!\n";
    }
} elsif ($user) {
    $) = "$group $group";
    $( = $group;
    ($<, $>) = ($user, $user);
}
exec { $ARGV[0] } @ARGV or die "starting $ARGV[0]: $!\n";

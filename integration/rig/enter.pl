# Starts a program in the current directory as its root directory: enter.pl DIRECTORY USER GROUP UNSHARE VARIABLES
# [NAME=VALUE...] PROGRAM [ARGUMENT...]. VARIABLES is how many there are. UNSHARE is that system call's number where only a
# user namespace can give USER and GROUP, else 0; so is USER where nothing is to change.
use strict;
my ($directory, $user, $group, $unshare, $variables) = splice @ARGV, 0, 5;
%ENV = map { split /=/, $_, 2 } splice @ARGV, 0, $variables;
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

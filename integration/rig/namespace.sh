# Runs a program in a root directory that is this machine's, with another directory as /nix. Run it in a mount namespace of
# its own: namespace.sh MOUNTPOINT NIX DIRECTORY PROGRAM [ARGUMENT...]
set -e
mnt=$1 nix=$2 here=$3
shift 3
mount -t tmpfs -o mode=755 tmpfs "$mnt"
for entry in /* /.[!.]*; do
    case $entry in
        /nix) continue ;;
    esac
    if [ -L "$entry" ]; then
        cp -P "$entry" "$mnt$entry"
    elif [ -d "$entry" ]; then
        mkdir "$mnt$entry"
        mount --rbind "$entry" "$mnt$entry"
    elif [ -f "$entry" ]; then
        : >"$mnt$entry"
        mount --bind "$entry" "$mnt$entry"
    fi
done
mkdir "$mnt/nix"
mount --rbind "$nix" "$mnt/nix"
cd "$mnt"
pivot_root . .
umount -l .
cd "$here"
exec "$@"

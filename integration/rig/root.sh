# Runs a program from a root directory of its own: root.sh MOUNT ROOT [PLACE DIRECTORY]... -- PROGRAM [ARGUMENT...]
# It is put together on the empty directory MOUNT, of directories and their places in it, and of what else ROOT has. Run it
# in a mount namespace. The program starts in the new root directory, and has yet to change to it.
set -e
mnt=$1 root=$2
shift 2
show() {
    if [ -L "$1" ]; then
        cp -P "$1" "$mnt$2"
    elif [ -d "$1" ]; then
        mkdir -p "$mnt$2"
        mount -n --rbind "$1" "$mnt$2"
    elif [ -f "$1" ]; then
        : >"$mnt$2"
        mount -n --bind "$1" "$mnt$2"
    fi
}
mount -n -t tmpfs -o mode=755 tmpfs "$mnt"
while [ "$1" != -- ]; do
    show "$2" "$1"
    shift 2
done
shift
for entry in "$root"/* "$root"/.[!.]*; do
    if [ ! -e "$mnt/${entry##*/}" ]; then show "$entry" "/${entry##*/}"; fi
done
cd "$mnt"
mount -n --move . / # a plain chroot would deny the program user namespaces of its own
exec "$@"

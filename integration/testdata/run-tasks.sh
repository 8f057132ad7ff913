# Stands behind tasks.sh: runs the tasks that are named, each in a directory of its own, and says how each ends.
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work LC_ALL=C TZ=UTC
cd "$work"

for name in "$@"; do
    mkdir -p "$work/$name"
    echo "== $name"
    # A task ends at its first failure, which "if" and "||" would prevent.
    set +o errexit
    (cd "$work/$name" && set -o errexit && "task_$name") 2>"$work/$name.errors"
    status=$?
    set -o errexit
    if [ "$status" -ne 0 ]; then
        echo "FAILED with $status"
        cat "$work/$name.errors"
    fi
done

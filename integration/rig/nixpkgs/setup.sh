# The builder of stdenv.mkDerivation: the phases of nixpkgs' own, as far as small projects use them.
set -eu -o pipefail
export PATH=
for input in $initialPath; do PATH=$PATH${PATH:+:}$input/bin; done
for input in $nativeBuildInputs $buildInputs $propagatedBuildInputs; do PATH=$input/bin:$PATH; done
export HOME=/homeless-shelter SHELL=$stdenvShell SOURCE_DATE_EPOCH=1 LANG=C.UTF-8
: "${outputs:=out}" "${prefix:=$out}"
NIX_BUILD_TOP=${NIX_BUILD_TOP:-$PWD}
cd "$NIX_BUILD_TOP"

# joinTree FROM TO: TO gets links to all files of FROM; folders that several trees have are merged.
joinTree() {
    local entry target
    for entry in "$1"/* "$1"/.[!.]*; do
        if [ ! -e "$entry" ] && [ ! -L "$entry" ]; then continue; fi
        target=$2/${entry##*/}
        if [ -d "$entry" ] && [ -d "$target" ]; then
            if [ -L "$target" ]; then
                local first
                first=$(readlink -f "$target")
                rm "$target"
                mkdir "$target"
                joinTree "$first" "$target"
            fi
            joinTree "$entry" "$target"
        elif [ -d "$entry" ] && [ ! -L "$entry" ] && [ "${entry##*/}" = bin ]; then
            mkdir -p "$target"
            joinTree "$entry" "$target"
        elif [ ! -e "$target" ]; then
            ln -s "$entry" "$target"
        fi
    done
}

# makeWrapper PROGRAM WRAPPER [--set NAME VALUE] [--prefix NAME SEP VALUE] [--suffix NAME SEP VALUE]
# [--add-flags FLAGS] [--unset NAME] [--chdir DIR]
makeWrapper() {
    local program=$1 wrapper=$2 flags=
    shift 2
    mkdir -p "$(dirname "$wrapper")"
    {
        echo "#!$stdenvShell -e"
        while [ $# -gt 0 ]; do
            case $1 in
                --set) printf 'export %s=%q\n' "$2" "$3"; shift 3 ;;
                --set-default) printf 'export %s=${%s-%q}\n' "$2" "$2" "$3"; shift 3 ;;
                --unset) printf 'unset %s\n' "$2"; shift 2 ;;
                --chdir) printf 'cd %q\n' "$2"; shift 2 ;;
                --prefix) printf 'export %s=%q${%s:+%q$%s}\n' "$2" "$4" "$2" "$3" "$2"; shift 4 ;;
                --suffix) printf 'export %s=${%s:+$%s%q}%q\n' "$2" "$2" "$2" "$3" "$4"; shift 4 ;;
                --add-flags) flags="$flags $2"; shift 2 ;;
                *) echo "makeWrapper: option $1 is not supported" >&2; return 1 ;;
            esac
        done
        echo "exec \"$program\"$flags \"\$@\""
    } >"$wrapper"
    chmod +x "$wrapper"
}
makeBinaryWrapper() { makeWrapper "$@"; }

wrapProgram() {
    local hidden
    hidden=$(dirname "$1")/.$(basename "$1")-wrapped
    mv "$1" "$hidden"
    makeWrapper "$hidden" "$@"
}
wrapProgramShell() { wrapProgram "$@"; }

# patchShebangs TREE: scripts get their interpreters from PATH.
patchShebangs() {
    local file line rest program found
    find "$1" -type f -perm -0100 | while read -r file; do
        IFS= read -r line <"$file" 2>/dev/null || continue
        case $line in '#!'*) ;; *) continue ;; esac
        rest=${line#??}
        set -- $rest
        [ "$(basename "$1")" != env ] || shift
        program=$(basename "$1")
        shift
        found=$(command -v "$program" || true)
        case $found in /nix/store/*) sed -i "1s|.*|#!$found${*:+ $*}|" "$file" ;; esac
    done
}

substituteInPlace() {
    local file=$1
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --replace | --replace-fail | --replace-warn)
                local contents
                contents=$(cat "$file"; printf x)
                contents=${contents%x}
                printf %s "${contents//"$2"/"$3"}" >"$file"
                shift 3 ;;
            *) echo "substituteInPlace: option $1 is not supported" >&2; return 1 ;;
        esac
    done
}
install_() { :; }

runHook() {
    local hook=$1
    if declare -F "$hook" >/dev/null; then "$hook"; elif [ -n "${!hook:-}" ]; then eval "${!hook}"; fi
}
runPhase() {
    local phase=$1
    if [ -n "${!phase:-}" ]; then eval "${!phase}"; else "default_$phase"; fi
}
default_unpackPhase() {
    [ -n "${src:-}" ] || return 0
    if [ -d "$src" ]; then
        local name
        name=$(basename "$src")
        cp -r "$src" "${name#*-}"
        chmod -R u+w "${name#*-}"
        cd "${name#*-}"
    else
        case $src in
            *.tar*) tar xf "$src"; cd "${sourceRoot:-$(find . -mindepth 1 -maxdepth 1 -type d | head -n 1)}" ;;
        esac
    fi
}
default_patchPhase() { :; }
default_configurePhase() { :; }
default_buildPhase() { :; }
default_checkPhase() { :; }
default_installPhase() { echo "no installPhase" >&2; return 1; }
default_fixupPhase() {
    local output
    for output in $outputs; do
        if [ -d "${!output}" ] && [ -z "${dontPatchShebangs:-}" ]; then patchShebangs "${!output}"; fi
    done
    if [ -n "$propagatedBuildInputs" ]; then
        mkdir -p "$out/nix-support"
        echo "$propagatedBuildInputs" >"$out/nix-support/propagated-build-inputs"
    fi
}

if [ -n "${buildCommand:-}" ]; then
    eval "$buildCommand"
    exit 0
fi
if [ -n "${dontUnpack:-}" ]; then unpackPhase=:; fi
for phase in ${phases:-unpackPhase patchPhase configurePhase buildPhase ${doCheck:+checkPhase} installPhase fixupPhase}; do
    name=${phase%Phase}
    case $phase in buildPhase | installPhase | unpackPhase) runHook "pre${name^}" ;; esac
    runPhase "$phase"
    case $phase in buildPhase | installPhase | unpackPhase) runHook "post${name^}" ;; esac
done

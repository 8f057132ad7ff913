package launch_test

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/launch"
)

func TestNeedsShellNamesWhatTheLauncherCannotDoItself(t *testing.T) {
	g := NewGomega(func(message string, _ ...int) { t.Error(message) })
	for line, want := range map[string][2]string{
		"app 3>&1":                         {"redirection of file descriptor 3", "sh"},
		"app >| f":                         {"redirection >|", "sh"},
		"{ exec >f; } && app":              {"exec with redirections alone inside another command", "sh"},
		"coproc app":                       {"coproc", "bash"},
		"app @(a|b)":                       {"extended glob @(", "bash"},
		"app & echo $!":                    {"$!", "sh"},
		"[[ a ]] && app & echo $!":         {"$!", "bash"},
		"app &> f & echo $!":               {"$!", "bash"},
		"echo $-":                          {"$-", "sh"},
		"a | b; echo ${PIPESTATUS[0]}":     {"$PIPESTATUS", "bash"},
		"select x in a b; do app $x; done": {"select", "bash"},
		"time app":                         {"time", "bash"},
		"case x in x) a ;& y) b;; esac":    {"case with ;&", "bash"},
		"export -n A":                      {"export -n", "bash"},
		"export -p":                        {"export -p", "sh"},
		"declare -i a=1":                   {"declare -i", "bash"},
		"hash app && app":                  {"hash", "sh"},
		"kill $(jobs -p)":                  {"jobs", "sh"},
		"app & disown":                     {"disown", "bash"},
		"app & kill %1":                    {"job %1", "sh"},
		"trap \"kill %1\" EXIT; app":       {"job %1", "sh"},
		"trap 'app x; kill -- %1' TERM; a": {"job %1", "sh"},
		"eval 'app &' 'wait %1'":           {"wait for a single job", "sh"},
		"kill -l":                          {"kill -l", "sh"},
		"trap 'x' HUP; app":                {"trap on HUP", "sh"},
		"trap 'x' SIGUSR1; app":            {"trap on USR1", "sh"},
		"trap - hup; app":                  {"trap on HUP", "sh"},
		"trap '' TERM; app":                {"trap '' TERM", "sh"},
		"trap 'x' DEBUG; app":              {"trap on DEBUG", "bash"},
		"(trap 'x' TERM; app)":             {"trap in a subshell", "sh"},
		"app | (trap 'x' EXIT; app)":       {"trap in a subshell", "sh"},
		"f() { umask 077; }; (f)":          {"umask in a subshell", "sh"},
		"trap -p":                          {"trap -p", "sh"},
		"wait $PID":                        {"wait for a single job", "sh"},
		"app & wait -p x -n":               {"wait -p", "bash"},
		"(app & wait -n)":                  {"wait -n", "bash"},
		"umask u=rwx; app":                 {"umask u=rwx", "sh"},
		"(umask 077; app)":                 {"umask in a subshell", "sh"},
		"(ulimit -n 64; app)":              {"ulimit in a subshell", "sh"},
		"ulimit -n 64 | app":               {"ulimit in a subshell", "sh"},
		"ulimit -a":                        {"ulimit -a", "sh"},
		"set -o noclobber; app":            {"set -o noclobber", "sh"},
		"set -eC; app":                     {"set -C", "sh"},
		"set -o posix; app":                {"set -o posix", "bash"},
		"shopt -s extglob; app":            {"shopt extglob", "bash"},
		"shopt -q nullglob":                {"shopt -q", "bash"},
		"read -t 5 x; app":                 {"read -t", "bash"},
		"read -ra x; app":                  {"read -ra", "bash"},
		"read -p x -n 1 y":                 {"read -n", "bash"},
		"mapfile -n 1 x":                   {"mapfile -n", "bash"},
		"type -a app":                      {"type -a", "bash"},
		"cd -P x; app":                     {"cd -P", "sh"},
		"command -p app":                   {"command -p", "sh"},
		"builtin printf -v x y":            {"printf -v", "bash"},
		"printf '%q' x":                    {"printf %q", "bash"},
		"printf '%5.2f' 1":                 {"printf %.", "sh"},
		"bash -c 'app & echo $!'":          {"$!", "sh"},
		"exec run_proot.sh sh -c 'time a'": {"time", "bash"},

		"": {}, "app $(": {}, "app": {}, "run_proot.sh app -p $PORT": {}, "a & b & wait -n": {}, "a & wait": {},
		"trap 'x' TERM INT; app": {}, "trap x EXIT ERR 15; app": {}, "trap - TERM; app": {}, "trap x $SIGNALS; app": {},
		"f() { umask 077; }; ulimit -n 64 -s 100; f": {}, "x=$(umask); y=$(ulimit -n)": {}, "ulimit -Hn; ulimit -S -n 5": {},
		"set -euo pipefail; set -- -C; app": {}, "set +e -x": {}, "shopt -s nullglob; app": {}, "read -rp 'x? ' a b": {},
		"printf '%s %d%% %-5x\\n' a 1 2": {}, "type -P app; command -v app; command -V app": {}, "cd -; cd /x": {},
		"hash() { true; }; hash": {}, "[[ -n $A ]] && app": {}, "local x=1; declare -A m; export A=1 B": {},
		"app <<< x; app &> y; app |& b": {}, "bash -c 'app; exit $?'": {}, "$X -t 1; \"$CMD\" %1": {}, "mapfile -t x < f": {},
	} {
		construct, shell := launch.NeedsShell(line)
		g.Expect([2]string{construct, shell}).To(Equal(want), line)
	}
}

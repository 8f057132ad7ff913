package launch

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// builtinCall is a command of a line as far as it is written out: words that expansions make are dynamic.
type builtinCall struct {
	words  []string
	forked bool // it runs in a subshell
}

// unknown names what the interpreter lacks of the built-in that the command is a call of; "" where it lacks nothing.
func (c builtinCall) unknown() (construct string, bash bool) {
	args := c.words[1:]
	switch c.words[0] {
	case "builtin", "command":
		return c.unknownCommand()
	case "hash", "jobs", "fg", "bg":
		return c.words[0], false
	case "disown":
		return c.words[0], true
	case "eval":
		return nested(strings.Join(args, " "))
	case "trap":
		return c.unknownTrap()
	case "wait":
		return c.unknownWait()
	case "kill":
		return unknownKill(args), false
	case "umask", "ulimit":
		return c.unknownLimit(), false
	case "set":
		return unknownSetting(args)
	case "shopt":
		return unknownShopt(args), true
	case "read":
		return unknownFlag("read", args, "rs", "p"), true
	case "mapfile", "readarray":
		return unknownFlag(c.words[0], args, "t", "d"), true
	case "type":
		return unknownFlag("type", args, "tpP", ""), true
	case "cd":
		return unknownFlag("cd", args, "", ""), false
	case "printf":
		return unknownFormat(args)
	}
	return "", false
}

// unknownCommand looks through "command" and "builtin" at the built-in that they call.
func (c builtinCall) unknownCommand() (construct string, bash bool) {
	args := c.words[1:]
	if c.words[0] == "command" {
		if flag := unknownFlag("command", args, "vV", ""); flag != "" {
			return flag, false
		}
		if len(args) > 0 && strings.HasPrefix(args[0], "-") {
			return "", false
		}
	}
	if len(args) == 0 {
		return "", false
	}
	return builtinCall{words: args, forked: c.forked}.unknown()
}

// nested looks at text that a built-in runs as a line of its own.
func nested(text string) (construct string, bash bool) {
	l, err := parseLine(text)
	if err != nil || strings.Contains(text, dynamic) {
		return "", false
	}
	return l.needs.construct, l.needs.bash
}

// standIn looks at the line of a shell that the image may not have.
func (c builtinCall) standIn() (construct string, bash bool) {
	words := c.words
	for len(words) > 0 && (words[0] == "exec" || filepath.Base(words[0]) == ProgramName) {
		words = words[1:]
	}
	if len(words) == 0 {
		return "", false
	}
	if ln, _, _, ok := shellCommand(words); ok && ln.needs.construct != "" && words[2] != dynamic {
		return ln.needs.construct, ln.needs.bash
	}
	return "", false
}

// unknownFlag names the first option that is neither one of flags nor one of valued, which take a value.
func unknownFlag(name string, args []string, flags, valued string) string {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			return ""
		}
		for at, letter := range arg[1:] {
			switch {
			case strings.ContainsRune(flags, letter):
			case strings.ContainsRune(valued, letter) && at == len(arg)-2:
				i++
			default:
				return name + " " + arg
			}
		}
	}
	return ""
}

func (c builtinCall) unknownTrap() (construct string, bash bool) {
	args := c.words[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if flag := unknownFlag("trap", args, "", ""); flag != "" || len(args) < 2 {
		return flag, false
	}
	action, signals := args[0], args[1:]
	for _, word := range signals {
		switch name := signalName(word); {
		case name == "DEBUG" || name == "RETURN":
			return "trap on " + name, true
		case word != dynamic && name != "EXIT" && name != "ERR" && !trappable(name):
			return "trap on " + name, false
		case action == "-":
		case action == "" && trappable(name):
			return "trap '' " + name, false
		case c.forked:
			return "trap in a subshell", false
		}
	}
	return nested(action)
}

// signalName is the name that trap knows a signal by.
func signalName(word string) string {
	switch name := strings.TrimPrefix(strings.ToUpper(word), "SIG"); name {
	case "0":
		return "EXIT"
	case "2":
		return "INT"
	case "3":
		return "QUIT"
	case "15":
		return "TERM"
	default:
		return name
	}
}

// trappable reports whether the interpreter can have a trap on a signal: one that would end the line.
func trappable(name string) bool { return name == "TERM" || name == "INT" || name == "QUIT" }

func (c builtinCall) unknownWait() (construct string, bash bool) {
	args := c.words[1:]
	switch {
	case len(args) == 0 || slices.Equal(args, []string{"-n"}) && !c.forked:
		return "", false
	case strings.HasPrefix(args[0], "-"):
		return "wait " + args[0], true
	}
	return "wait for a single job", false
}

func unknownKill(args []string) string {
	for _, arg := range args {
		if arg == "-l" || arg == "-L" {
			return "kill " + arg
		}
		if strings.HasPrefix(arg, "%") {
			return "job " + arg
		}
	}
	return ""
}

// unknownLimit names a use of umask and ulimit that this process cannot make: it has one mask and one set of limits
// for all its subshells.
func (c builtinCall) unknownLimit() string {
	sets := false
	for _, arg := range c.words[1:] {
		switch {
		case c.words[0] == "umask" && arg != dynamic && strings.Trim(arg, "01234567") != "":
			return "umask " + arg
		case c.words[0] == "ulimit" && strings.HasPrefix(arg, "-") && !knownLimit(arg):
			return "ulimit " + arg
		case !strings.HasPrefix(arg, "-"):
			sets = true
		}
	}
	if sets && c.forked {
		return c.words[0] + " in a subshell"
	}
	return ""
}

// knownLimit reports whether an option of ulimit is one that the built-in has.
func knownLimit(flag string) bool {
	letters := strings.TrimPrefix(strings.TrimPrefix(flag[1:], "S"), "H")
	_, _, known := limits("-" + letters)
	return known || letters == ""
}

// unknownSetting names an option of "set" that the interpreter does not have.
func unknownSetting(args []string) (construct string, bash bool) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" || len(arg) < 2 || arg[0] != '-' && arg[0] != '+' {
			break
		}
		for _, letter := range arg[1:] {
			switch {
			case letter == 'o' && i+1 < len(args):
				i++
				if name := args[i]; !slices.Contains(shellSettings, name) && name != dynamic {
					return "set -o " + name, !slices.Contains([]string{"noclobber", "notify", "monitor", "verbose"}, name)
				}
			case letter != 'o' && !strings.ContainsRune("aenfux", letter):
				return fmt.Sprintf("set -%c", letter), !strings.ContainsRune("bCmvhn", letter)
			}
		}
	}
	return "", false
}

// shellSettings and bashSettings are what the interpreter knows of "set -o" and "shopt -s".
var (
	shellSettings = []string{"allexport", "errexit", "noexec", "noglob", "nounset", "xtrace", "pipefail"}
	bashSettings  = []string{"expand_aliases", "globstar", "nocaseglob", "nullglob"}
)

func unknownShopt(args []string) string {
	if flag := unknownFlag("shopt", args, "suo", ""); flag != "" {
		return flag
	}
	for _, arg := range args {
		known := slices.Contains(bashSettings, arg) || slices.Contains(shellSettings, arg) || arg == dynamic
		if !known && !strings.HasPrefix(arg, "-") {
			return "shopt " + arg
		}
	}
	return ""
}

// unknownFormat names what the interpreter's printf lacks: -v, and most conversions.
func unknownFormat(args []string) (construct string, bash bool) {
	if len(args) == 0 {
		return "", false
	}
	if args[0] == "-v" {
		return "printf -v", true
	}
	for _, conversion := range strings.Split(strings.ReplaceAll(args[0], "%%", ""), "%")[1:] {
		verb := strings.TrimLeft(conversion, "-+ 0123456789")
		if verb != "" && !strings.ContainsRune("csbdiuox", rune(verb[0])) {
			return "printf %" + verb[:1], verb[0] == 'q' || verb[0] == '('
		}
	}
	return "", false
}

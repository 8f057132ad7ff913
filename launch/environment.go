package launch

import (
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
)

// environment is a process environment in its original order. Names need not be ones a shell accepts: platforms set
// such variables and they reach the app unchanged.
type environment []string

func newEnvironment(environ []string) environment { return slices.Clone(environ) }

func (e environment) index(name string) int {
	return slices.IndexFunc(e, func(pair string) bool {
		return len(pair) > len(name) && pair[len(name)] == '=' && pair[:len(name)] == name
	})
}

func (e environment) get(name string) string {
	if i := e.index(name); i >= 0 {
		return e[i][len(name)+1:]
	}
	return ""
}

func (e *environment) set(name, value string) {
	if i := e.index(name); i >= 0 {
		*e = slices.Clone(*e)
		(*e)[i] = name + "=" + value
		return
	}
	*e = append(slices.Clip(*e), name+"="+value)
}

func (e *environment) unset(name string) {
	*e = slices.DeleteFunc(slices.Clone(*e), func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
}

// prependPath puts dirs first on PATH, once.
func (e *environment) prependPath(dirs []string) {
	path := slices.Clone(dirs)
	for _, dir := range filepath.SplitList(e.get("PATH")) {
		if !slices.Contains(dirs, dir) {
			path = append(path, dir)
		}
	}
	if len(path) > 0 {
		e.set("PATH", strings.Join(path, string(filepath.ListSeparator)))
	}
}

// overlay returns the environment of a program that the shell starts: outer with the shell's exported variables over
// it. A variable that came from outside stays exported when the shell sets it.
func (e environment) overlay(shell expand.Environ) environment {
	out := slices.Clone(e)
	place := make(map[string]int, len(out))
	for i, pair := range out {
		name, _, _ := strings.Cut(pair, "=")
		place[name] = i
	}
	gone := false
	for name, v := range shell.Each {
		i, known := place[name]
		switch {
		case known && !v.IsSet():
			out[i], gone = "", true
		case v.Kind == expand.String && known:
			out[i] = name + "=" + v.Str
		case v.Kind == expand.String && v.Exported && v.IsSet():
			place[name] = len(out)
			out = append(out, name+"="+v.Str)
		}
	}
	if gone {
		out = slices.DeleteFunc(out, func(pair string) bool { return pair == "" })
	}
	return out
}

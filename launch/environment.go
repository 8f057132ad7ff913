package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// environment is a process environment in its original order. Names need not be ones a shell accepts: platforms set
// such variables and they reach the app unchanged.
type environment []string

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
	others := slices.DeleteFunc(filepath.SplitList(e.get("PATH")), func(dir string) bool { return slices.Contains(dirs, dir) })
	if path := slices.Concat(dirs, others); len(path) > 0 {
		e.set("PATH", strings.Join(path, string(filepath.ListSeparator)))
	}
}

// prepareEnvironment turns this process's environment into the app's: store paths become what the engine needs, the closure's
// programs come first on PATH, and the configuration's defaults are set where they apply.
func (l *launcher) prepareEnvironment() {
	for i, pair := range l.env {
		l.env[i] = l.relocated(pair)
	}
	l.env.prependPath(l.engine.bin)
	for _, d := range l.config.Defaults {
		l.setDefault(d)
	}
}

func (l *launcher) setDefault(d EnvDefault) {
	for _, name := range slices.Concat(d.Variables, d.Others) {
		if l.env.index(name) >= 0 {
			return
		}
	}
	for _, file := range d.Files {
		if _, err := os.Stat(file); err == nil {
			return
		}
	}
	value := l.relocated(d.Value)
	for _, name := range d.Variables {
		l.env.set(name, value)
	}
}

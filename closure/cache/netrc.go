package cache

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/origin"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// Netrc is a netrc file: the first entry that is for a server and has a login counts.
type Netrc []NetrcEntry

// NetrcEntry is one machine of a netrc file.
type NetrcEntry struct {
	// Machine is a host name, perhaps with a port, which curl does not know; "" is the default entry, for all hosts.
	Machine         string
	Login, Password string
}

// OwnNetrc is the text of the user's own file: $NETRC, else ~/.netrc. It need not be there, nor be readable.
func OwnNetrc(env func(string) string) (string, error) {
	path := env("NETRC")
	if home := env("HOME"); path == "" && home != "" {
		path = filepath.Join(home, ".netrc")
	}
	if path == "" {
		return "", nil
	}
	data, err := readSetting(path)
	if os.IsNotExist(err) || os.IsPermission(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading netrc: %w", err)
	}
	return string(data), nil
}

// maxSetting bounds a file that a setting names, in bytes.
const maxSetting = 16 << 20

// readSetting reads a file that a setting names. People name /dev/null to have none.
func readSetting(name string) ([]byte, error) {
	if name == os.DevNull {
		return nil, nil
	}
	return regularfile.ReadLinked(context.Background(), name, maxSetting)
}

// For is the login for a URL. An entry with a port is for that, one without for the scheme's own port, and both for nothing
// but TLS, unless the server is one that the user named as a cache (known): then any port will do, and the default entry.
func (n Netrc) For(u *url.URL, known bool) (NetrcEntry, bool) {
	for _, e := range n {
		if (e.Login != "" || e.Password != "") && e.matches(u, known) {
			return e, true
		}
	}
	return NetrcEntry{}, false
}

func (e NetrcEntry) matches(u *url.URL, known bool) bool {
	if e.Machine == "" {
		return known
	}
	if u.Scheme != "https" && !known {
		return false
	}
	host, port, err := net.SplitHostPort(e.Machine)
	if err == nil {
		return strings.EqualFold(host, u.Hostname()) && port == origin.Port(u)
	}
	machine := strings.TrimSuffix(strings.TrimPrefix(e.Machine, "["), "]")
	return strings.EqualFold(machine, u.Hostname()) && (known || origin.Port(u) == "443")
}

// ParseNetrc reads the format as curl does, and with it Nix (curl's lib/netrc.c): machine, default, login, password and
// account, words that may be quoted, whole lines of comment, and macdef up to an empty line. A word that it does not know
// it skips. Of the values of one entry the last counts.
func ParseNetrc(text string) Netrc {
	var entries Netrc
	words := netrcWords(text)
	for i := 0; i < len(words); i++ {
		value := func() string {
			if i+1 < len(words) {
				i++
				return words[i]
			}
			return ""
		}
		switch word := strings.ToLower(words[i]); word {
		case "machine":
			entries = append(entries, NetrcEntry{Machine: value()})
		case "default":
			entries = append(entries, NetrcEntry{})
		case "login", "password", "account":
			v := value()
			if len(entries) == 0 {
				continue
			}
			if last := &entries[len(entries)-1]; word == "login" {
				last.Login = v
			} else if word == "password" {
				last.Password = v
			}
		}
	}
	return entries
}

// netrcWords are the words of all lines but comments and macros. A comment is a line whose first word begins with "#";
// elsewhere that is part of a word, such as a password.
func netrcWords(text string) []string {
	var words []string
	macro := false
	for line := range strings.Lines(text) {
		rest := strings.TrimSpace(line)
		if macro = macro && rest != ""; macro || strings.HasPrefix(rest, "#") {
			continue
		}
		for rest != "" {
			var word string
			word, rest = netrcWord(rest)
			if strings.EqualFold(word, "macdef") {
				macro = true
				break
			}
			words = append(words, word)
			rest = strings.TrimSpace(rest)
		}
	}
	return words
}

// netrcWord takes one word off. In quotes a backslash makes the next letter one of the word, n, r and t a control.
func netrcWord(s string) (word, rest string) {
	if s[0] != '"' {
		i := strings.IndexAny(s, " \t\r\n")
		if i < 0 {
			return s, ""
		}
		return s[:i], s[i:]
	}
	controls := map[byte]byte{'n': '\n', 'r': '\r', 't': '\t'}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			if control, ok := controls[s[i]]; ok {
				b.WriteByte(control)
			} else {
				b.WriteByte(s[i])
			}
		case s[i] == '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

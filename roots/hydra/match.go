package hydra

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/redact"
	"github.com/nixproot/nix-hydra-buildpack/internal/text"
)

// Source is a repository at a commit that an evaluation was made from.
type Source struct {
	// Name is the jobset's for it, or "flake"; Revision the full commit.
	Name, URI, Revision string
}

// IsCommit reports whether a revision is a whole commit of git or Mercurial. Subversion has numbers, and lists of pull
// requests and branches have the time at which they were fetched (Plugin/GithubPulls.pm: 20261128123456). All zeros are
// git's name for none.
func IsCommit(revision string) bool {
	return (len(revision) == 40 || len(revision) == 64) && isHex(revision) && strings.Trim(revision, "0") != ""
}

// Sources are the repositories of an evaluation, by name. A flake is one; an input is one if its revision is a commit.
func (e Eval) Sources() []Source {
	var all []Source
	if uri, revision := splitFlake(e.Flake); revision != "" {
		all = append(all, Source{Name: "flake", URI: uri, Revision: revision})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Inputs)) {
		input := e.Inputs[name]
		if IsCommit(input.Revision) {
			all = append(all, Source{Name: name, URI: input.URI, Revision: strings.ToLower(input.Revision)})
		}
	}
	return all
}

// candidates are the sources that may be the asked one: those of its repository, or, where none is recognised, all.
func (e Eval) candidates(q Query) (all []Source, recognised bool) {
	all = e.Sources()
	if q.GitURL == "" {
		return all, false
	}
	var same []Source
	for _, s := range all {
		if sameRepository(s.URI, q.GitURL) {
			same = append(same, s)
		}
	}
	if len(same) == 0 {
		return all, false
	}
	return same, true
}

// matches gives the full revision by which an evaluation is the wanted one, "" if it is not.
func (e Eval) matches(q Query) string {
	candidates, _ := e.candidates(q)
	for _, s := range candidates {
		if strings.HasPrefix(s.Revision, q.Revision) {
			return s.Revision
		}
	}
	return ""
}

// revision is the commit of the wanted source in an evaluation, "" where that may be one of several.
func (e Eval) revision(q Query) string {
	if !q.wantsLatest() {
		return e.matches(q)
	}
	candidates, _ := e.candidates(q)
	if len(candidates) != 1 {
		return ""
	}
	return candidates[0].Revision
}

func (e Eval) revisions(q Query) []string {
	candidates, _ := e.candidates(q)
	if len(candidates) == 0 {
		return []string{"no commit"}
	}
	if len(candidates) == 1 {
		return []string{candidates[0].Revision}
	}
	var names []string
	for _, s := range firstOf(candidates, 6) {
		names = append(names, text.Clip(s.Name, 40)+"="+short(s.Revision))
	}
	return names
}

// repositories are for the error that says a revision is missing.
func (e Eval) repositories(q Query) (others []string) {
	candidates, recognised := e.candidates(q)
	if recognised || q.GitURL == "" {
		return nil
	}
	for _, s := range firstOf(candidates, 6) {
		others = append(others, fmt.Sprintf("%s=%s", text.Clip(s.Name, 40), redactURI(s.URI)))
	}
	return others
}

// splitFlake takes a locked flake reference, as `nix flake metadata --json` gives it in "url" and Hydra keeps it,
// apart into repository and commit: "github:owner/repo/<rev>" or "git+https://host/repo?ref=main&rev=<rev>". The
// commit is "" where the reference is not locked to one.
func splitFlake(ref string) (uri, revision string) {
	u, err := url.Parse(ref)
	if ref == "" || err != nil {
		return "", ""
	}
	revision = u.Query().Get("rev")
	if u.Opaque == "" {
		scheme := strings.TrimPrefix(u.Scheme, "git+")
		uri = (&url.URL{Scheme: strings.TrimPrefix(scheme, "hg+"), User: u.User, Host: u.Host, Path: u.Path}).String()
	} else {
		parts := strings.Split(u.Opaque, "/")
		if len(parts) > 2 && revision == "" {
			revision = parts[2]
		}
		hosts := map[string]string{"github": "github.com", "gitlab": "gitlab.com", "sourcehut": "git.sr.ht"}
		host := hosts[u.Scheme]
		if given := u.Query().Get("host"); given != "" {
			host = given
		}
		if host != "" && len(parts) >= 2 {
			owner, _ := url.PathUnescape(parts[0])
			uri = "https://" + host + "/" + owner + "/" + parts[1]
		}
	}
	if !IsCommit(revision) {
		return uri, ""
	}
	return uri, strings.ToLower(revision)
}

// sameRepository reports whether two addresses name one repository, whatever way leads to it: scheme, user, port,
// ".git" and the "host:path" form of ssh make no difference, nor does a Hydra input's "+", ref or query.
func sameRepository(a, b string) bool {
	x, y := canonicalRepository(a), canonicalRepository(b)
	return x != "" && x == y
}

func canonicalRepository(raw string) string {
	raw = strings.TrimSpace(raw)
	if fields := strings.Fields(raw); len(fields) > 0 {
		raw = fields[0] // Hydra writes "URL branch" where it configures an input
	}
	if scheme, _, found := strings.Cut(raw, "://"); !found {
		switch name, rest, colon := strings.Cut(raw, ":"); {
		case colon && (name == "github" || name == "gitlab" || name == "sourcehut"):
			raw, _ = splitFlake(raw)
		case colon && !strings.Contains(name, "/"):
			raw = "ssh://" + name + "/" + strings.TrimPrefix(rest, "/")
		case strings.HasPrefix(raw, "/"):
			raw = "file://" + raw
		}
	} else if i := strings.LastIndex(scheme, "+"); i >= 0 {
		raw = raw[i+1:]
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Host == "" && u.Scheme != "file") {
		return ""
	}
	p := strings.TrimSuffix(strings.TrimSuffix(path.Clean("/"+u.Path), "/"), ".git")
	if host := strings.ToLower(u.Hostname()); host != "" {
		if host == "github.com" || host == "gitlab.com" {
			p = strings.ToLower(p) // these two do not distinguish cases
		}
		return host + p
	}
	return p
}

// redactURI is a repository's address without what may be secret in it.
func redactURI(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "an address that is not a URL"
	}
	u.RawQuery = ""
	return text.Clip(redact.URL(u), 120)
}

const (
	nearestShown  = 8
	nearestLooked = 5000
	nearestLength = 64
)

// nearest gives the names most like the wanted one, and how many more there are.
func nearest(want string, names []string) (near []string, more int) {
	type ranked struct {
		name string
		far  int
	}
	var list []ranked
	for _, name := range firstOf(names, nearestLooked) {
		far := text.Distance(firstBytes(want, nearestLength), firstBytes(name, nearestLength))
		if want != "" && strings.Contains(name, want) {
			far = min(far, 1)
		}
		list = append(list, ranked{text.Clip(name, 120), far})
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].far != list[j].far {
			return list[i].far < list[j].far
		}
		return list[i].name < list[j].name
	})
	for _, r := range firstOf(list, nearestShown) {
		near = append(near, r.name)
	}
	return near, len(names) - len(near)
}

func firstBytes(s string, n int) string { return s[:min(len(s), n)] }

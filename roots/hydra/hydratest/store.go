package hydratest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// file is anything that is sent as it is.
type file struct {
	status int
	kind   string
	data   []byte
}

// Store makes Hydra a binary cache of its own store: dir is a binary cache that Nix has written with xz, and may be
// filled later.
func (s *Server) Store(dir string) { s.with(func() { s.store = dir }) }

var narinfoName = regexp.MustCompile(`^([a-z0-9]{32})\.narinfo$`)

// storePage serves the store as Hydra does (Controller/Root.pm, nix_cache_info, narinfo and nar; View/NARInfo.pm;
// View/NixNAR.pm): the archives are named by store path and compressed while they are sent, so that nothing is said of
// the file, and a signature is only there where a key is configured.
func (s *Server) storePage(parts []string) (any, bool) {
	name := strings.Join(parts, "/")
	hash := narinfoName.FindStringSubmatch(name)
	isNAR := len(parts) == 2 && parts[0] == "nar"
	switch {
	case name != "nix-cache-info" && hash == nil && !isNAR:
		return nil, false
	case s.store == "":
		return notFound("There is no binary cache here."), true
	case name == "nix-cache-info":
		return plain("StoreDir: /nix/store\nWantMassQuery: 0\nPriority: 100\n"), true
	case isNAR:
		fields := s.narinfo(parts[1][:min(32, len(parts[1]))])
		data, err := os.ReadFile(filepath.Join(s.store, fields["URL"]))
		if fields == nil || err != nil {
			return failure{http.StatusGone, "Path /nix/store/" + parts[1] + " is no longer available."}, true
		}
		return file{http.StatusOK, "application/x-nix-archive", data}, true
	}
	fields := s.narinfo(hash[1])
	if fields == nil {
		return file{http.StatusNotFound, "text/plain", []byte("does not exist\n")}, true
	}
	text := fmt.Sprintf("StorePath: %s\nURL: nar/%s\nCompression: xz\nNarHash: %s\nNarSize: %s\nReferences: %s\n",
		fields["StorePath"], filepath.Base(fields["StorePath"]), fields["NarHash"], fields["NarSize"], fields["References"])
	if fields["Deriver"] != "" { // and, while that is in the store, its platform
		text += "Deriver: " + fields["Deriver"] + "\nSystem: x86_64-linux\n"
	}
	if fields["Sig"] != "" {
		text += "Sig: " + fields["Sig"] + "\n"
	}
	return file{http.StatusOK, "text/x-nix-narinfo", []byte(text)}, true
}

// narinfo is what the store has by a hash, nil where it has nothing.
func (s *Server) narinfo(hash string) map[string]string {
	text, err := os.ReadFile(filepath.Join(s.store, filepath.Base(hash)+".narinfo"))
	if err != nil {
		return nil
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

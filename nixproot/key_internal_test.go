package nixproot

import (
	"context"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/roots"
)

func TestKey(t *testing.T) {
	spec.Run(t, "key", testKey)
}

// pushed is a source with its settings, as they come with a push.
type pushed struct {
	t         *testing.T
	config    Config
	entry     entry
	identity  nixinstall.Identity
	source    string
	version   string
	toolchain string
	urls      []string
	keys      narinfo.Keys
	unsigned  bool
}

func newPushed(t *testing.T) *pushed {
	p := &pushed{
		t: t, source: t.TempDir(), version: "1.0", toolchain: "sha256:aa", entry: entry{File: "shell.nix"},
		config:   Config{Settings: roots.Settings{System: "x86_64-linux", Args: map[string]string{"name": "shop"}}},
		identity: nixinstall.Identity{URL: "https://example.org/shop.git", Rev: "73b550b0000000000000000000000000000000aa"},
		urls:     []string{"https://me:secret@cache.example.org", "https://other.example.org"},
		keys: narinfo.Keys{
			{Name: "a-1", Key: make(ed25519.PublicKey, 32)}, {Name: "b-1", Key: make(ed25519.PublicKey, 32)},
		},
	}
	p.write("shell.nix", "{ }", 0o644)
	p.write("run", "#!/bin/sh", 0o755)
	p.link("link", "run")
	return p
}

func (p *pushed) write(name, text string, mode os.FileMode) {
	p.done(os.WriteFile(filepath.Join(p.source, name), []byte(text), mode))
	p.done(os.Chmod(filepath.Join(p.source, name), mode))
}

func (p *pushed) done(err error) { Expect(err).WithOffset(1).NotTo(HaveOccurred()) }

func (p *pushed) link(name, target string) {
	p.done(os.RemoveAll(filepath.Join(p.source, name)))
	p.done(os.Symlink(target, filepath.Join(p.source, name)))
}

func (p *pushed) key() string {
	s := &inputs{version: p.version, settings: cacheSettings{urls: p.urls, keys: p.keys, requireSigs: !p.unsigned}}
	finder := roots.Finder{
		Settings: p.config.Settings, Source: p.source, File: p.entry.File, Flake: p.entry.Flake, Identity: p.identity,
		Conditions: s.conditions(),
	}
	key, err := finder.Key(context.Background(), p.toolchain)
	Expect(err).NotTo(HaveOccurred())
	return key
}

func testKey(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("is another one after every change that may lead to other store paths", func() {
		seen := map[string]string{newPushed(t).key(): "nothing"}
		for what, change := range map[string]func(p *pushed){
			"a file's text":        func(p *pushed) { p.write("shell.nix", "{ } ", 0o644) },
			"a file's name":        func(p *pushed) { p.write("other", "", 0o644) },
			"a file's mode":        func(p *pushed) { p.write("run", "#!/bin/sh", 0o644) },
			"a link's target":      func(p *pushed) { p.link("link", "shell.nix") },
			"a link to a file":     func(p *pushed) { p.link("link", "x"); p.write("link2", "", 0o644) },
			"the file to evaluate": func(p *pushed) { p.entry = entry{File: "default.nix"} },
			"a flake":              func(p *pushed) { p.entry = entry{Flake: "."} },
			"BP_NIX_ATTRS":         func(p *pushed) { p.config.Attrs = []string{"shop"} },
			"BP_NIX_ARGS":          func(p *pushed) { p.config.Args = map[string]string{"name": "ship"} },
			"BP_NIX_PATH":          func(p *pushed) { p.config.NixPath = []string{"nixpkgs=./nixpkgs"} },
			"BP_NIX_SOURCE_NAME":   func(p *pushed) { p.config.SourceName = "source" },
			"BP_NIX_GIT_URL":       func(p *pushed) { p.config.GitURL = "https://example.org/ship.git" },
			"BP_NIX_GIT_REV":       func(p *pushed) { p.config.GitRev = "73b550b" },
			"the commit":           func(p *pushed) { p.identity.Rev = "73b550b0000000000000000000000000000000bb" },
			"the commit, with a word for Hydra": func(p *pushed) {
				p.config.GitRev, p.identity.Rev = "latest", "73b550b0000000000000000000000000000000cc"
			},
			"the system":             func(p *pushed) { p.config.System = "aarch64-linux" },
			"the toolchain":          func(p *pushed) { p.toolchain = "sha256:bb" },
			"the buildpack":          func(p *pushed) { p.version = "1.1" },
			"a cache":                func(p *pushed) { p.urls[1] = "https://third.example.org" },
			"one cache less":         func(p *pushed) { p.urls = p.urls[:1] },
			"another key":            func(p *pushed) { p.keys[0].Name = "c-1" },
			"a key of the same name": func(p *pushed) { p.keys[0].Key[7] ^= 1 },
			"one key less":           func(p *pushed) { p.keys = p.keys[:1] },
			"BP_NIX_REQUIRE_SIGS":    func(p *pushed) { p.unsigned = true },
		} {
			p := newPushed(t)
			change(p)
			key := p.key()
			Expect(seen).NotTo(HaveKey(key), what+" and "+seen[key])
			seen[key] = what
		}
	})

	it("is another one with a feature of the language or a variable of nixpkgs, and with no other setting of Nix", func() {
		before := newPushed(t).key()
		for variable, differs := range map[string]bool{
			"NIX_CONFIG=extra-experimental-features = pipe-operators": true,
			"NIX_CONFIG=extra-experimental-features = cgroups":        false,
			"NIX_CONFIG=max-jobs = 4":                                 false,
			"NIXPKGS_ALLOW_UNFREE=1":                                  true,
		} {
			name, value, _ := strings.Cut(variable, "=")
			t.Setenv(name, value)
			Expect(newPushed(t).key() != before).To(Equal(differs), variable)
			t.Setenv(name, "")
		}
	})

	it("stays the same where nothing can follow from a change", func() {
		for what, change := range map[string]func(p *pushed){
			"time":           func(p *pushed) { p.done(os.Chtimes(filepath.Join(p.source, "run"), time.Time{}, time.Unix(1, 0))) },
			".git":           func(p *pushed) { p.done(os.Mkdir(filepath.Join(p.source, ".git"), 0o755)) },
			"mode of others": func(p *pushed) { p.write("shell.nix", "{ }", 0o600) },
			"a login":        func(p *pushed) { p.urls[0] = "https://you:other@cache.example.org" },
			"order of keys":  func(p *pushed) { p.keys[0], p.keys[1] = p.keys[1], p.keys[0] },
			"the engine":     func(p *pushed) { p.config.Engine = launch.EngineProot },
			"what stays":     func(p *pushed) { p.config.IncludeFiles = []string{"run"} },
		} {
			p := newPushed(t)
			before := p.key()
			change(p)
			Expect(p.key()).To(Equal(before), what)
		}
	})
}

package nixproot

import (
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/roots"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

const (
	// defaultCache is the binary cache that Nix itself uses by default.
	defaultCache = "https://cache.nixos.org"
	// defaultKey is the key that signs what defaultCache serves.
	defaultKey = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
)

// Config is what the person who deploys has set, read from the environment once and checked as a whole. The
// settings are declared in buildpack.toml and described in the README.
type Config struct {
	// Substituters are the binary caches, in the order they were given.
	Substituters []string
	// TrustedKeys are the keys whose signature makes a store path acceptable.
	TrustedKeys narinfo.Keys
	// RequireSigs is false only where a setting says so.
	RequireSigs bool

	// Settings say which store paths the image is made of.
	roots.Settings
	// File and Flake say what to evaluate, where not the first of the known files.
	File  string
	Flake string

	// Engine is how the app is to see its store, one of the names in package launch.
	Engine string
	// Harmless are globs of files that may stand in the way of relocation.
	Harmless relocate.Overrules
	// IncludeFiles and ExcludeFiles are glob patterns: what of the source stays in the image.
	IncludeFiles []string
	ExcludeFiles []string
	// RemoveSource says that the source may be removed from a directory that does not look like this build's own.
	RemoveSource bool

	// Concurrency is how many store paths are fetched at once; 0 leaves it to the machine.
	Concurrency int
	// StallTimeout is how long a download may bring next to nothing; 0 leaves it to package cache.
	StallTimeout time.Duration
	// MaxLayers bounds the number of closure layers; 0 is the default.
	MaxLayers int
}

// Lookup finds a setting; ok is false where it is not set and value is the declared default.
type Lookup func(name string) (value string, ok bool)

// ReadConfig reads every setting. Its error names the variable, what it holds and what it may hold.
func ReadConfig(lookup Lookup, architecture string) (Config, error) {
	r := reader{lookup: lookup}
	c := Config{
		Settings:     r.roots(architecture),
		RequireSigs:  r.boolean("BP_NIX_REQUIRE_SIGS", true),
		File:         r.text("BP_NIX_FILE"),
		Flake:        r.text("BP_NIX_FLAKE"),
		IncludeFiles: r.patterns("BP_INCLUDE_FILES"),
		ExcludeFiles: r.patterns("BP_EXCLUDE_FILES"),
		RemoveSource: r.boolean("BP_NIX_REMOVE_SOURCE", false),
		Concurrency:  r.number("BP_NIX_CONCURRENCY", 256),
		MaxLayers:    r.number("BP_NIX_MAX_LAYERS", 100),
		StallTimeout: r.duration("BP_NIX_STALLED_DOWNLOAD_TIMEOUT", time.Millisecond),
	}
	c.Engine = r.engine("BP_NIX_ENGINE")
	c.Harmless = r.harmless("BP_NIX_HARMLESS")
	c.Substituters, c.TrustedKeys = r.caches()
	r.hydra(c.HydraURL, c.HydraJob)
	r.epoch("SOURCE_DATE_EPOCH")
	return c, r.err
}

// hydra checks that a Hydra can be asked for a job. The URL alone is for finding out why an output is in no cache.
func (r *reader) hydra(address, job string) {
	if u, err := url.Parse(address); address != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		want := "a URL such as https://hydra.example.org"
		if lacks := lacksOfIPv6(address); lacks != "" {
			want = "a URL: " + lacks
		}
		r.fail("BP_NIX_HYDRA_URL", withoutLogin(address), want)
	}
	if job == "" {
		return
	}
	if _, err := hydra.ParseJob(job); err != nil {
		r.wrong("BP_NIX_HYDRA_JOB", err, "a job looks like shop/main/myapp")
	}
	if r.err == nil && address == "" {
		r.err = fmt.Errorf("BP_NIX_HYDRA_JOB is %q, and BP_NIX_HYDRA_URL does not say which Hydra has it: they go "+
			"together, set both, for example BP_NIX_HYDRA_URL=https://hydra.example.org", job)
	}
}

// roots reads the settings of package roots.
func (r *reader) roots(architecture string) roots.Settings {
	s := roots.Settings{
		HydraURL:   strings.TrimRight(r.text("BP_NIX_HYDRA_URL"), "/"),
		HydraJob:   r.text("BP_NIX_HYDRA_JOB"),
		HydraWait:  r.duration("BP_NIX_HYDRA_WAIT", 0),
		Attrs:      r.list("BP_NIX_ATTRS", "NIX_ATTRIBUTES"),
		Args:       r.pairs("BP_NIX_ARGS"),
		ArgExprs:   r.pairs("BP_NIX_ARG_EXPRS"),
		NixPath:    r.list("BP_NIX_PATH"),
		GitURL:     r.text("BP_NIX_GIT_URL"),
		GitRev:     r.text("BP_NIX_GIT_REV"),
		SourceName: r.text("BP_NIX_SOURCE_NAME"),
		System:     r.system(architecture),
	}
	if s.GitURL != "" && !isAddress(s.GitURL) {
		r.fail("BP_NIX_GIT_URL", s.GitURL, "the address of a git repository")
	}
	if err := hydra.CheckRevision(s.GitRev); s.GitRev != "" && err != nil && r.err == nil {
		r.err = fmt.Errorf("BP_NIX_GIT_REV: %w", err)
	}
	for _, text := range r.list("BP_NIX_STORE_PATH") {
		p, err := storepath.Parse(strings.TrimSuffix(text, "/")) // as a shell completes it
		switch {
		case err != nil:
			r.wrong("BP_NIX_STORE_PATH", err, "a store path looks like /nix/store/<hash>-<name>")
		case strings.HasSuffix(text, ".drv"):
			r.fail("BP_NIX_STORE_PATH", text, "outputs, and this is a derivation: nix-store --query --outputs prints them")
		default:
			s.StorePaths = append(s.StorePaths, p)
		}
	}
	return s
}

func (r *reader) engine(name string) string {
	value := strings.ToLower(r.text(name))
	switch {
	case value == "":
		return launch.EngineAuto
	case launch.KnownEngine(value):
		return value
	}
	r.fail(name, value, "auto, relocate, native, userns or proot")
	return launch.EngineAuto
}

func (r *reader) harmless(name string) relocate.Overrules {
	overrules, err := relocate.ParseOverrules(r.text(name))
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("reading %s: %w", name, err)
	}
	return overrules
}

// caches joins the list of substituters with the extra ones, and adds cache.nixos.org's key where that cache is
// asked, so that naming a key of one's own does not take trust away from the default cache.
func (r *reader) caches() ([]string, narinfo.Keys) {
	urls := r.urls("BP_NIX_SUBSTITUTERS")
	if len(urls) == 0 {
		urls = []string{defaultCache}
	}
	urls = append(urls, r.urls("NIX_EXTRA_BINARY_CACHE")...)
	keys := r.text("BP_NIX_TRUSTED_PUBLIC_KEYS")
	var unique []string
	for _, u := range urls {
		if slices.Contains(unique, u) {
			continue
		}
		unique = append(unique, u)
		if parsed, err := url.Parse(u); err == nil && parsed.Host == "cache.nixos.org" {
			keys += " " + defaultKey
		}
	}
	parsed, err := narinfo.ParseKeys(keys)
	if err != nil {
		r.wrong("BP_NIX_TRUSTED_PUBLIC_KEYS", err, "a key looks like "+defaultKey)
	}
	return unique, parsed
}

// urls are the addresses of binary caches.
func (r *reader) urls(name string) []string {
	urls := r.list(name)
	for _, u := range urls {
		if err := checkCache(u); err != nil {
			r.wrong(name, err, "a cache looks like https://cache.example.org")
		}
	}
	return urls
}

// checkCache says what keeps a text from being a binary cache's URL, without the login that may be in it.
func checkCache(address string) error {
	parsed, err := url.Parse(address)
	if lacks := lacksOfIPv6(address); lacks != "" && (err != nil || parsed.Host == "") {
		return fmt.Errorf("parsing cache URL %q: %s", withoutLogin(address), lacks)
	}
	if err != nil || parsed.Scheme == "" {
		return fmt.Errorf("parsing cache URL %q: it is no URL, or one without a scheme", withoutLogin(address))
	}
	return cache.CheckURL(address)
}

// lacksOfIPv6 says what an address of IPv6 lacks to stand in a URL, "" where a text that is no URL has none.
func lacksOfIPv6(address string) string {
	_, host, ok := strings.Cut(address, "://")
	if !ok {
		host = address
	}
	host, _, _ = strings.Cut(host[strings.LastIndexByte(host, '@')+1:], "/")
	bare, _, zone := strings.Cut(host, "%")
	switch {
	case strings.HasPrefix(host, "[") && zone:
		return "the zone of an IPv6 address begins with %25 there, as in http://[fe80::1%25eth0]:8080"
	case strings.HasPrefix(host, "["), strings.Count(bare, ":") > 1 && strings.Trim(bare, "0123456789abcdefABCDEF:.") == "":
		return "an IPv6 address stands in brackets there, as in http://[2001:db8::1]:8080"
	}
	return ""
}

// withoutLogin is an address without what stands before its last @, also where it is no URL.
func withoutLogin(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return "…" + address[at:]
	}
	return address
}

// systems are the platforms that there are images for, as Nix names them, by their architectures as OCI does.
func systems() map[string]string {
	return map[string]string{"amd64": "x86_64-linux", "arm64": "aarch64-linux"}
}

// architectureOf is the architecture of one of systems, "" of any other.
func architectureOf(system string) string {
	for architecture, each := range systems() {
		if each == system {
			return architecture
		}
	}
	return ""
}

// system names the platform as Nix does.
func (r *reader) system(architecture string) string {
	if architecture == "" {
		architecture = runtime.GOARCH
	}
	if system := systems()[architecture]; system != "" {
		return system
	}
	if r.err == nil {
		r.err = fmt.Errorf("the target architecture %q is neither amd64 nor arm64, which are those Nix releases exist for: "+
			"build for linux/amd64 or linux/arm64, on a builder and a run image of that", architecture)
	}
	return ""
}

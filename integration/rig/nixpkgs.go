package rig

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// Pin names a revision of nixpkgs as a project's nixpkgs.json does.
type Pin struct {
	Owner  string `json:"owner"`
	Repo   string `json:"repo"`
	Rev    string `json:"rev"`
	SHA256 string `json:"sha256"` // of the unpacked source's NAR, base 32
}

// Nixpkgs is a small stand-in for nixpkgs that real Nix builds in a Store.
type Nixpkgs struct {
	Store *Store
	// Source is its expressions in the store, under the name that fetchFromGitHub gives.
	Source string
	// Pin makes fetchFromGitHub give Source.
	Pin Pin

	rig   *Rig
	dir   string
	suite string
	debs  map[string]Deb // by name in the store
}

// The stand-ins, each with its packages.json and expressions of its own in a directory of that name.
const (
	mainStandIn     = "nixpkgs"
	familiesStandIn = "families"
	surveyStandIn   = "survey"
)

// Nixpkgs gives the stand-in for nixpkgs in the rig's shared store. Nothing of it is built yet.
func (r *Rig) Nixpkgs(ctx context.Context) (*Nixpkgs, error) {
	return r.standIn(ctx, mainStandIn, Suite)
}

// Families gives another stand-in, in the same store: languages and formats that Nixpkgs has not, from BaseSuite, whose
// Erlang still compresses literals. What is not for them is as in Nixpkgs.
func (r *Rig) Families(ctx context.Context) (*Nixpkgs, error) {
	return r.standIn(ctx, familiesStandIn, BaseSuite)
}

// standIn gives the stand-in of that name, made of a Debian suite.
func (r *Rig) standIn(ctx context.Context, name, suite string) (*Nixpkgs, error) {
	store, err := r.Store(ctx)
	if err != nil {
		return nil, err
	}
	repack, err := r.repacker(ctx)
	if err != nil {
		return nil, err
	}
	repackSum, err := fileSHA256(repack)
	if err != nil {
		return nil, err
	}
	inputs := []string{"2", suite, r.arch, store.Dir(), repackSum}
	for _, dir := range slices.Compact([]string{mainStandIn, name}) {
		sum, err := embeddedSum(dir)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, sum)
	}
	dir, err := r.cached(ctx, name, inputs, func(ctx context.Context, dir, _ string) error {
		return r.makeNixpkgs(ctx, store, repack, name, suite, dir)
	})
	if err != nil {
		return nil, err
	}
	n := &Nixpkgs{Store: store, rig: r, dir: dir, suite: suite, debs: map[string]Deb{}}
	return n, n.read()
}

// embeddedSum stands for the embedded files of a directory.
func embeddedSum(dir string) (string, error) {
	entries, err := nixpkgsFiles.ReadDir(dir)
	if err != nil {
		return "", err
	}
	sum := sha1.New()
	for _, entry := range entries {
		contents, err := nixpkgsFiles.ReadFile(dir + "/" + entry.Name())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", entry.Name(), len(contents), contents)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// makeNixpkgs resolves the packages and writes expressions and pin to dir.
func (r *Rig) makeNixpkgs(ctx context.Context, store *Store, repack, name, suite, dir string) error {
	c, err := readChoice(name)
	if err != nil {
		return err
	}
	debs, err := r.chosen(ctx, c, suite)
	if err != nil {
		return err
	}
	repackPath, err := store.Run(ctx, "nix-store", "--add-fixed", "--recursive", "sha256", repack)
	if err != nil {
		return err
	}
	hash, err := store.narHash(ctx, strings.TrimSpace(repackPath))
	if err != nil {
		return err
	}
	u, err := r.groupPackages(debs, c, hash)
	if err != nil {
		return err
	}
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		return err
	}
	if err := writeNixpkgs(u, name, source); err != nil {
		return err
	}
	added, err := store.Run(ctx, "nix-store", "--add-fixed", "--recursive", "sha256", source)
	if err != nil {
		return err
	}
	sourceHash, err := store.narHash(ctx, strings.TrimSpace(added))
	if err != nil {
		return err
	}
	rev := sha1.Sum([]byte(sourceHash))
	kept := keptNixpkgs{
		Source: strings.TrimSpace(added), Debs: debs,
		Pin: Pin{Owner: "NixOS", Repo: "nixpkgs", Rev: hex.EncodeToString(rev[:]), SHA256: sourceHash},
	}
	contents, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "nixpkgs.json"), contents, 0o644)
}

// chosen gives the packages of a choice, with what they depend on.
func (r *Rig) chosen(ctx context.Context, c *choice, suite string) ([]Deb, error) {
	want := append(append([]string{}, c.Want...), c.Tools...)
	if c.Sample > 0 {
		return r.sample(ctx, c, want, suite)
	}
	from, err := r.apt(ctx, suite)
	if err != nil {
		return nil, err
	}
	return from.resolve(ctx, want...)
}

// keptNixpkgs is what a later process reads back.
type keptNixpkgs struct {
	Source string
	Pin    Pin
	Debs   []Deb
}

func (n *Nixpkgs) read() error {
	contents, err := os.ReadFile(filepath.Join(n.dir, "nixpkgs.json"))
	if err != nil {
		return fmt.Errorf("reading nixpkgs: %w", err)
	}
	var kept keptNixpkgs
	if err := json.Unmarshal(contents, &kept); err != nil {
		return fmt.Errorf("reading nixpkgs: %w", err)
	}
	n.Source, n.Pin = kept.Source, kept.Pin
	for _, d := range kept.Debs {
		n.debs[storeName(d.Name+"-"+d.Version+".deb")] = d
	}
	return nil
}

// narHash is the SHA-256 of a store path's NAR, base 32.
func (s *Store) narHash(ctx context.Context, path string) (string, error) {
	out, err := s.Run(ctx, "nix-store", "--query", "--hash", path)
	return strings.TrimPrefix(strings.TrimSpace(out), "sha256:"), err
}

// Build builds attributes of the stand-in ("git", "python3Packages.flask") and gives their output paths.
func (n *Nixpkgs) Build(ctx context.Context, attrs ...string) ([]string, error) {
	args := []string{n.Source}
	for _, attr := range attrs {
		args = append(args, "-A", attr)
	}
	return n.Realise(ctx, args...)
}

// Realise instantiates what the arguments of nix-instantiate say, builds it with real Nix and gives the output
// paths. Expressions find this nixpkgs as <nixpkgs>.
func (n *Nixpkgs) Realise(ctx context.Context, args ...string) ([]string, error) {
	args = append([]string{"-I", "nixpkgs=" + n.Source, "--quiet"}, args...)
	drvs, err := n.Store.Lines(ctx, "nix-instantiate", args...)
	if err != nil {
		return nil, fmt.Errorf("instantiating: %w", err)
	}
	return n.RealiseDrvs(ctx, drvs...)
}

// RealiseDrvs builds derivations that are in the store and gives their output paths.
func (n *Nixpkgs) RealiseDrvs(ctx context.Context, drvs ...string) ([]string, error) {
	for i, drv := range drvs {
		drvs[i], _, _ = strings.Cut(drv, "!")
	}
	ended, err := n.supply(ctx, drvs)
	if err != nil {
		return nil, err
	}
	defer ended()
	outs, err := n.Store.Lines(ctx, "nix-store", append([]string{"--realise", "--keep-going"}, drvs...)...)
	if err != nil {
		return nil, fmt.Errorf("building: %w", err)
	}
	return outs, nil
}

// supply downloads the Debian packages that derivations are made of, unless their outputs are there, and says what will
// be built. The function it gives says that it is.
func (n *Nixpkgs) supply(ctx context.Context, drvs []string) (ended func(), err error) {
	out, err := n.Store.Command(ctx, "nix-store", append([]string{"--realise", "--dry-run"}, drvs...)...)
	if err != nil {
		return nil, err
	}
	var said strings.Builder
	out.Stderr = &said
	if _, err := output(out); err != nil {
		return nil, fmt.Errorf("planning builds: %w: %s", err, said.String())
	}
	wanted := map[string]Deb{}
	for _, word := range strings.Fields(said.String()) {
		name := strings.TrimSuffix(filepath.Base(word), ".drv")
		if len(name) > 33 && strings.HasSuffix(word, ".deb.drv") {
			if d, ok := n.debs[name[33:]]; ok {
				wanted[name[33:]] = d
			}
		}
	}
	if len(wanted) == 0 {
		return func() {}, nil
	}
	names := make([]string, 0, len(wanted))
	for name := range wanted {
		names = append(names, name)
	}
	sort.Strings(names)
	debs := make([]Deb, len(names))
	for i, name := range names {
		debs[i] = wanted[name]
	}
	from, err := n.rig.apt(ctx, n.suite)
	if err != nil {
		return nil, err
	}
	files, err := from.download(ctx, debs)
	if err != nil {
		return nil, fmt.Errorf("%w (if Debian has newer versions now, remove %s and run again)", err, n.dir)
	}
	dir, err := os.MkdirTemp(n.rig.dir, ".supply-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	args := []string{"--add-fixed", "sha256"}
	for i, name := range names {
		if err := os.Link(files[i], filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		args = append(args, filepath.Join(dir, name))
	}
	ended = n.rig.doing("building with Nix: %s", shortList(names))
	_, err = n.Store.Run(ctx, "nix-store", args...)
	return ended, err
}

func shortList(names []string) string {
	if len(names) <= 4 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
}

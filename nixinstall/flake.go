package nixinstall

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// flakeReference is a flake inside the source, as Nix's command line names one ("./nix?submodules=1#server"): see
// parsePathFlakeRefWithFragment in NixOS/nix, src/libflake/flakeref.cc.
type flakeReference struct {
	// dir is the directory that has flake.nix, relative to the source.
	dir string
	// alone says that the directory is the whole flake, as path: has it; else the flake is the repository.
	alone bool
	// named says that the directory is written as a path, and not as a URL or its query.
	named bool
	// submodules says that the repository's submodules belong to the flake.
	submodules bool
	// rev is the commit that was named, "" for none.
	rev string
	// attr is the attribute path to take, with the outputs after "^" where it has them.
	attr string
}

// parseFlakeReference reads a flake reference that names a directory of the source.
func parseFlakeReference(text string) (flakeReference, error) {
	var ref flakeReference
	fail := func(format string, args ...any) (flakeReference, error) {
		return ref, fmt.Errorf("evaluating flake %s: %s", text, fmt.Sprintf(format, args...))
	}
	place, fragment, hasAttr := strings.Cut(text, "#")
	if before, outputs, found := strings.Cut(place, "^"); found && !hasAttr {
		place, fragment = before, "^"+outputs
	}
	place, rawQuery, _ := strings.Cut(place, "?")
	var err error
	ref.named = true
	for _, scheme := range []string{"path:", "git+file:"} {
		if escaped, found := strings.CutPrefix(place, scheme); found { // a path by itself is none of a URL
			ref.alone, ref.named = scheme == "path:", false
			if place, err = url.PathUnescape(escaped); err != nil {
				return fail("reading the directory: %v", err)
			}
			break
		}
	}
	if strings.Contains(place, ":") {
		return fail("want a directory of the source, for example .#default")
	}
	if ref.attr, err = url.PathUnescape(fragment); err != nil {
		return fail("reading what follows #: %v", err)
	}
	query, err := url.ParseQuery(strings.ReplaceAll(rawQuery, "+", "%2B")) // to Nix a plus sign is one
	if err != nil {
		return fail("reading what follows ?: %v", err)
	}
	for name := range query {
		value := query.Get(name)
		switch {
		case name == "dir" && (ref.alone || path.Clean(place) == "." || place == ""):
			place, ref.named = value, false
		case name == "dir":
			return fail("both %s and dir=%s name a directory", place, value)
		case ref.alone:
			return fail("a flake of path: has no %s", name)
		case name == "submodules":
			ref.submodules = value == "1"
		case name == "rev":
			ref.rev = value
		case name == "shallow", name == "allRefs", name == "lfs": // how it is fetched, which it already is
		default:
			return fail("%s=%s asks for another source than the one that was pushed", name, value)
		}
	}
	ref.dir = "."
	if place != "" {
		if ref.dir, err = inSource(place); err != nil {
			return ref, err
		}
	}
	if path.Base(ref.dir) == "flake.nix" {
		ref.dir = path.Dir(ref.dir)
	}
	return ref, nil
}

// flakeAbove is the directory of the flake that a directory of the source belongs to: where its links lead, or the nearest
// above that with a flake.nix. Where there is none it is the directory itself.
func flakeAbove(source, dir string) (string, error) {
	rel, err := regularfile.Resolve(source, filepath.FromSlash(dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dir, nil
	case errors.Is(err, regularfile.ErrOutside):
		return "", fmt.Errorf("%s leads out of the source", dir)
	case err != nil:
		return "", err
	}
	rel = filepath.ToSlash(rel)
	for above := rel; ; above = path.Dir(above) {
		if isFile(filepath.Join(source, filepath.FromSlash(above), "flake.nix")) {
			return above, nil
		}
		if above == "." {
			return rel, nil
		}
	}
}

// FlakeFile is the flake.nix that a flake reference leads to, relative to the source. Errors are of references that name
// no directory of the source, and fs.ErrNotExist where there is no such file.
func FlakeFile(source, flake string) (string, error) {
	ref, err := parseFlakeReference(flake)
	if err != nil {
		return "", err
	}
	if ref.named {
		if ref.dir, err = flakeAbove(source, ref.dir); err != nil {
			return "", fmt.Errorf("evaluating flake %s: %w", flake, err)
		}
	}
	file := filepath.Join(filepath.FromSlash(ref.dir), "flake.nix")
	if !isFile(filepath.Join(source, file)) {
		return file, fmt.Errorf("evaluating flake %s: %s: %w", flake, file, fs.ErrNotExist)
	}
	return file, nil
}

// flakeURL is the locked reference of the flake in the source. It is locked by the source's NAR hash, so that Nix
// evaluates it purely and writes no lock file. r.Source becomes the flake's own source.
func (t Toolchain) flakeURL(ctx context.Context, r *Request, ref flakeReference) (string, error) {
	if ref.rev != "" && ref.rev != r.Rev {
		return "", fmt.Errorf("evaluating flake %s: it names the revision %s, and the source's is %s", r.Flake, ref.rev,
			cmp.Or(r.Rev, "not known"))
	}
	directory := t.settings.physical(r.Source.String())
	if ref.named {
		var err error
		if ref.dir, err = flakeAbove(directory, ref.dir); err != nil {
			return "", fmt.Errorf("evaluating flake %s: %w", r.Flake, err)
		}
	}
	options := SourceOptions{Rule: GitKept}
	if ref.alone {
		directory = filepath.Join(directory, filepath.FromSlash(ref.dir))
		ref.dir, r.Rev, r.RevCount = ".", "", 0
	} else if !ref.submodules {
		var err error
		if options.Exclude, err = submodules(directory); err != nil {
			return "", fmt.Errorf("evaluating flake %s: %w", r.Flake, err)
		}
	}
	// Nix takes a flake out of a chroot store only under this name; under another it looks for the real /nix/store.
	if r.Source.Name() != DefaultSourceName || ref.alone || len(options.Exclude) > 0 {
		source, err := t.AddSource(ctx, directory, options)
		if err != nil {
			return "", err
		}
		r.Source, directory = source, t.settings.physical(source.String())
	}
	hash, err := narHash(ctx, directory, func(string) bool { return true })
	if err != nil {
		return "", fmt.Errorf("evaluating flake %s: %w", r.Flake, err)
	}
	query := url.Values{"narHash": {"sha256-" + base64.StdEncoding.EncodeToString(hash[:])}}
	if ref.dir != "." {
		query.Set("dir", ref.dir)
	}
	if r.Rev != "" {
		query.Set("rev", r.Rev)
	}
	if r.LastModified > 0 {
		query.Set("lastModified", strconv.FormatInt(r.LastModified, 10))
	}
	if r.RevCount > 0 {
		query.Set("revCount", strconv.FormatInt(r.RevCount, 10))
	}
	return "path:" + r.Source.String() + "?" + strings.ReplaceAll(query.Encode(), "+", "%20"), nil
}

var (
	submodulePath = regexp.MustCompile(`(?m)^\s*path\s*=\s*"?([^"\n]*?)"?\s*$`)
	// selfSubmodules is how a flake says itself that its submodules belong to it.
	selfSubmodules = regexp.MustCompile(`\bself\.submodules\s*=\s*true\b`)
)

const (
	// maxModulesFile bounds the files that are read for submodules, in bytes.
	maxModulesFile = 1 << 20
	// maxSubmodules bounds the submodules that submodules have, all together: links may show the same ones again and again.
	maxSubmodules = 1 << 14
)

// submodules are the directories of a source's submodules, checked out or empty: Nix takes a repository without them, unless
// the reference or the flake itself says otherwise.
func submodules(dir string) ([]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if flake, err := readSourceFile(root, "flake.nix"); err != nil || selfSubmodules.MatchString(flake) {
		return nil, err
	}
	return modulesIn(root, ".")
}

// modulesIn are the directories of the submodules of a repository in a source, from the source's root on, each once.
func modulesIn(root *os.Root, repository string) ([]string, error) {
	modules, err := readSourceFile(root, path.Join(repository, ".gitmodules"))
	if err != nil {
		return nil, err
	}
	var directories []string
	seen := map[string]bool{}
	for _, found := range submodulePath.FindAllStringSubmatch(modules, -1) {
		directory := path.Clean(found[1])
		if !fs.ValidPath(directory) || directory == "." || seen[directory] {
			continue
		}
		seen[directory] = true
		directory = path.Join(repository, directory)
		if _, err := root.Lstat(directory); err == nil {
			directories = append(directories, directory)
		}
	}
	return directories, nil
}

// NestedSubmodules are the submodules of a source's submodules that are not empty, and what lies in them, as entries that
// SourceOptions.Exclude leaves out.
func NestedSubmodules(ctx context.Context, source string) (nested, entries []string, err error) {
	root, err := os.OpenRoot(source)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	modules, err := modulesIn(root, ".")
	if err != nil {
		return nil, nil, err
	}
	looked := 0
	for _, module := range modules {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		inner, err := modulesIn(root, module)
		if err != nil {
			return nil, nil, err
		}
		if looked += len(inner) + 1; looked > maxSubmodules {
			return nil, nil, fmt.Errorf("its submodules have more than %d submodules", maxSubmodules)
		}
		for _, directory := range inner {
			if names := namesIn(root, directory); len(names) > 0 {
				nested, entries = append(nested, directory), append(entries, names...)
			}
		}
	}
	return nested, entries, nil
}

// namesIn are the entries of a directory in a source, from the source's root on; a symbolic link to one has none.
func namesIn(root *os.Root, directory string) []string {
	if info, err := root.Lstat(directory); err != nil || !info.IsDir() {
		return nil
	}
	found, err := fs.ReadDir(root.FS(), directory)
	if err != nil {
		return nil
	}
	names := make([]string, len(found))
	for i, entry := range found {
		names[i] = path.Join(directory, entry.Name())
	}
	return names
}

// readSourceFile reads a regular file of a source, "" where there is none or a large one.
func readSourceFile(root *os.Root, name string) (string, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() > maxModulesFile) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	text, err := root.ReadFile(name)
	return string(text), err
}

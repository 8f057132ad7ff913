package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	publicMirror = "http://deb.debian.org/debian"
	listsMaxAge  = 12 * time.Hour
)

// Deb is a Debian binary package as its suite's index describes it.
type Deb struct {
	Name, Version, Arch string
	Depends             []string // clauses of Pre-Depends and Depends, as "a (>= 1) | b"
	Provides            []string // names, without versions
	Filename            string   // below the mirror's root
	SHA256              string   // hex
	Size                int64    // bytes
	Installed           int64    // bytes, unpacked
}

// file is the package's file as apt-get names it.
func (d Deb) file() string {
	return d.Name + "_" + strings.ReplaceAll(d.Version, ":", "%3a") + "_" + d.Arch + ".deb"
}

// apt is a private root for apt: nothing of the machine's own package state is read or changed.
type apt struct {
	rig   *Rig
	suite string
	dir   string
}

// Debs resolves the packages' dependencies (without recommendations) in a Debian suite, and gives a directory with all
// their files, as on a freshly unpacked system where no package's scripts have run.
func (r *Rig) Debs(ctx context.Context, suite string, packages ...string) (string, error) {
	inputs := append([]string{"1", suite, r.arch}, packages...)
	return r.cached(ctx, "debs", inputs, func(ctx context.Context, dir, _ string) error {
		return r.unpack(ctx, dir, suite, packages...)
	})
}

// unpack unpacks packages of a suite and what they depend on, with /bin, /lib and /sbin merged into /usr.
func (r *Rig) unpack(ctx context.Context, dir, suite string, packages ...string) error {
	from, err := r.apt(ctx, suite)
	if err != nil {
		return err
	}
	debs, err := from.resolve(ctx, packages...)
	if err != nil {
		return err
	}
	files, err := from.download(ctx, debs)
	if err != nil {
		return err
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(dir, "usr", name), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return extract(ctx, dir, files...)
}

// extract unpacks packages over each other. Links to directories stay, as dpkg leaves them.
func extract(ctx context.Context, dir string, files ...string) error {
	const script = `for deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -xp --no-same-owner --keep-directory-symlink || exit
	done`
	_, err := run(ctx, dir, "/bin/sh", append([]string{"-c", script, "sh"}, files...)...)
	return err
}

// apt prepares the private root for a suite and brings its package index up to date when it is older than half a day.
func (r *Rig) apt(ctx context.Context, suite string) (*apt, error) {
	a := &apt{rig: r, suite: suite, dir: filepath.Join(r.dir, "apt", suite+"-"+r.arch)}
	unlock, err := r.lock(ctx, "apt-"+suite+"-"+r.arch)
	if err != nil {
		return nil, err
	}
	defer unlock()
	stamp := filepath.Join(a.dir, "updated")
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < listsMaxAge {
		return a, nil
	}
	for _, directory := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, directory), 0o755); err != nil {
			return nil, fmt.Errorf("preparing apt: %w", err)
		}
	}
	keyring, err := r.keyring(ctx)
	if err != nil {
		return nil, err
	}
	mirror := mirror()
	sources := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror, suite)
	for name, contents := range map[string]string{"status": "", "sources.list": sources} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(contents), 0o644); err != nil {
			return nil, fmt.Errorf("preparing apt: %w", err)
		}
	}
	defer r.doing("downloading the package index of Debian %s (about 16 MB)", suite)()
	if _, err := a.run(ctx, "apt-get", "update", "-qq"); err != nil {
		return nil, fmt.Errorf("reading package index of Debian %s: %w", suite, err)
	}
	if err := os.WriteFile(stamp, nil, 0o644); err != nil {
		return nil, fmt.Errorf("preparing apt: %w", err)
	}
	return a, nil
}

// run runs an apt program on the private root.
func (a *apt) run(ctx context.Context, name string, args ...string) (string, error) {
	return a.runIn(ctx, a.dir, name, args...)
}

func (a *apt) runIn(ctx context.Context, dir, name string, args ...string) (string, error) {
	settings := []string{
		"Dir::Etc::sourcelist=" + filepath.Join(a.dir, "sources.list"),
		"Dir::Etc::sourceparts=/dev/null",
		"Dir::Etc::preferences=/dev/null",
		"Dir::Etc::preferencesparts=/dev/null",
		"Dir::State=" + a.dir,
		"Dir::State::lists=" + filepath.Join(a.dir, "lists"),
		"Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"Dir::State::status=" + filepath.Join(a.dir, "status"),
		"APT::Architecture=" + a.rig.arch,
		"APT::Architectures::=" + a.rig.arch,
		"APT::Sandbox::User=",
		"APT::Install-Recommends=false",
		"APT::Update::Post-Invoke::=true",
		"APT::Update::Error-Mode=any", // without a network, too, which is else a warning
		"Acquire::Languages=none",
		"Acquire::Retries=3",
	}
	var all []string
	for _, setting := range settings {
		all = append(all, "-o", setting)
	}
	return run(ctx, dir, name, append(all, args...)...)
}

var uriLine = regexp.MustCompile(`(?m)^'[^']+' (\S+)_([^_\s]+)_([a-z0-9]+)\.deb \d+ `)

// resolve gives the packages with everything they depend on, in an order that has dependencies first where it can.
func (a *apt) resolve(ctx context.Context, packages ...string) ([]Deb, error) {
	out, err := a.run(ctx, "apt-get", append([]string{"install", "-y", "--print-uris"}, packages...)...)
	if err != nil {
		return nil, fmt.Errorf("resolving Debian packages: %w", err)
	}
	var exact []string
	for _, match := range uriLine.FindAllStringSubmatch(out, -1) {
		version, err := url.PathUnescape(match[2])
		if err != nil {
			return nil, fmt.Errorf("resolving Debian packages: version %q: %w", match[2], err)
		}
		exact = append(exact, match[1]+"="+version)
	}
	if len(exact) == 0 {
		return nil, fmt.Errorf("resolving Debian packages %s: apt-get named none", strings.Join(packages, " "))
	}
	shown, err := a.run(ctx, "apt-cache", append([]string{"show"}, exact...)...)
	if err != nil {
		return nil, fmt.Errorf("describing Debian packages: %w", err)
	}
	byName := map[string]Deb{}
	for _, stanza := range strings.Split(shown, "\n\n") {
		if d, ok := parseStanza(stanza); ok {
			byName[d.Name+"="+d.Version] = d
		}
	}
	debs := make([]Deb, 0, len(exact))
	for _, name := range exact {
		d, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("describing Debian packages: apt-cache left out %s", name)
		}
		debs = append(debs, d)
	}
	return debs, nil
}

// parseStanza reads the fields that a Deb has from a stanza of a package index.
func parseStanza(stanza string) (Deb, bool) {
	fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(strings.TrimSpace(stanza) + "\n\n"))).ReadMIMEHeader()
	if err != nil {
		return Deb{}, false
	}
	size, err := strconv.ParseInt(fields.Get("Size"), 10, 64)
	if err != nil || fields.Get("Package") == "" || fields.Get("SHA256") == "" {
		return Deb{}, false
	}
	installed, _ := strconv.ParseInt(fields.Get("Installed-Size"), 10, 64)
	d := Deb{
		Name: fields.Get("Package"), Version: fields.Get("Version"), Arch: fields.Get("Architecture"),
		Filename: fields.Get("Filename"), SHA256: fields.Get("SHA256"), Size: size, Installed: installed << 10,
	}
	for _, key := range []string{"Pre-Depends", "Depends"} {
		d.Depends = append(d.Depends, clauses(fields.Get(key))...)
	}
	for _, provided := range clauses(fields.Get("Provides")) {
		d.Provides = append(d.Provides, bareName(provided))
	}
	return d, true
}

func clauses(list string) []string {
	var all []string
	for _, clause := range strings.Split(list, ",") {
		if clause = strings.TrimSpace(clause); clause != "" {
			all = append(all, clause)
		}
	}
	return all
}

// bareName takes version and architecture off a package relation.
func bareName(relation string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(relation), " ")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// download gives the packages' files, in the same order. That they are what the index says is checked by apt-get.
func (a *apt) download(ctx context.Context, debs []Deb) ([]string, error) {
	pool := filepath.Join(a.rig.dir, "pool")
	if err := os.MkdirAll(pool, 0o755); err != nil {
		return nil, fmt.Errorf("downloading Debian packages: %w", err)
	}
	unlock, err := a.rig.lock(ctx, "pool")
	if err != nil {
		return nil, err
	}
	defer unlock()
	files := make([]string, len(debs))
	var missing []string
	var bytes int64
	for i, d := range debs {
		files[i] = filepath.Join(pool, d.file())
		if _, err := os.Stat(files[i]); err != nil {
			missing = append(missing, d.Name+"="+d.Version)
			bytes += d.Size
		}
	}
	if len(missing) == 0 {
		return files, nil
	}
	defer a.rig.doing("downloading packages of Debian %s: %d, %.1f MB", a.suite, len(missing), float64(bytes)/1e6)()
	incoming, err := os.MkdirTemp(pool, ".incoming-")
	if err != nil {
		return nil, fmt.Errorf("downloading Debian packages: %w", err)
	}
	defer os.RemoveAll(incoming)
	if _, err := a.runIn(ctx, incoming, "apt-get", append([]string{"download", "-qq"}, missing...)...); err != nil {
		return nil, fmt.Errorf("downloading Debian packages: %w", err)
	}
	for _, file := range files {
		err := os.Rename(filepath.Join(incoming, filepath.Base(file)), file)
		if _, there := os.Stat(file); there != nil {
			return nil, fmt.Errorf("downloading Debian packages: %w", err)
		}
	}
	return files, nil
}

var debianMirror = regexp.MustCompile(`(?m)^(?:deb\s.*?|URIs:\s*)(https?://\S+/debian)/?(?:\s|$)`)

// mirror is the Debian mirror that this machine uses, or the public name where it uses none.
func mirror() string {
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, name := range append([]string{"/etc/apt/sources.list"}, files...) {
		contents, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if match := debianMirror.FindSubmatch(contents); match != nil {
			return string(match[1])
		}
	}
	return publicMirror
}

const keyringName = "usr/share/keyrings/debian-archive-keyring"

// keyring is the file of Debian's archive keys: this machine's, or one from the package that Ubuntu has of it.
func (r *Rig) keyring(ctx context.Context) (string, error) {
	for _, ext := range []string{".gpg", ".pgp"} {
		if name := "/" + keyringName + ext; readable(name) {
			return name, nil
		}
	}
	dir, err := r.cached(ctx, "keyring", []string{"1"}, func(ctx context.Context, dir, _ string) error {
		r.log("downloading debian-archive-keyring")
		_, err := run(ctx, dir, "/bin/sh", "-c", ownKeyring)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("finding Debian's archive keys (install debian-archive-keyring): %w", err)
	}
	for _, ext := range []string{".gpg", ".pgp"} {
		if name := filepath.Join(dir, keyringName+ext); readable(name) {
			return name, nil
		}
	}
	return "", errors.New("finding Debian's archive keys (install debian-archive-keyring): package without keys")
}

// ownKeyring takes the keyring package from the machine's own distribution, with a package index of its own when the
// machine has none.
const ownKeyring = `set -e
package=debian-archive-keyring
if ! apt-get download -qq "$package"; then
	mkdir -p lists/partial
	apt-get -o Dir::State::lists="$PWD/lists" -o APT::Sandbox::User= update -qq
	apt-get -o Dir::State::lists="$PWD/lists" -o APT::Sandbox::User= download -qq "$package"
	rm -r lists
fi
dpkg-deb -x "$package"_*.deb .`

func readable(name string) bool {
	file, err := os.Open(name)
	if err != nil {
		return false
	}
	return file.Close() == nil
}

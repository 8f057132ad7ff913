// Command update rewrites the versions and checksums in buildpack.toml to what the publishers of its dependencies have
// now, and leaves every other byte of it alone; and the version of Nix in docs/limits.md beside it, where there is one.
// GITHUB_TOKEN, where it is set, logs in to GitHub's API.
//
//	go run ./scripts/update [FILE]
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const usage = `usage: go run ./scripts/update [FILE]

Rewrites the versions and checksums of Nix and PRoot in FILE (buildpack.toml) to what their publishers have now, the version
of Nix in docs/limits.md beside it, and says what it changed. GITHUB_TOKEN, where it is set, logs in to GitHub's API.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	flag.Usage = func() { fmt.Fprint(flag.CommandLine.Output(), usage) }
	if slices.ContainsFunc(os.Args[1:], func(arg string) bool { return arg == "--help" || arg == "-h" }) {
		flag.CommandLine.SetOutput(os.Stdout)
	}
	flag.Parse()
	if flag.NArg() > 1 {
		flag.Usage()
		os.Exit(2)
	}
	file := cmp.Or(flag.Arg(0), "buildpack.toml")
	u := updater{
		http: &http.Client{Timeout: time.Minute}, token: os.Getenv("GITHUB_TOKEN"),
		api: "https://api.github.com/repos", nix: "https://releases.nixos.org/nix", out: os.Stdout,
	}
	if err := u.file(ctx, file); err != nil {
		fmt.Fprintln(os.Stderr, "update:", err)
		os.Exit(1)
	}
}

// updater asks the publishers.
type updater struct {
	http     *http.Client
	token    string
	api, nix string // addresses
	out      io.Writer
}

// release is a dependency's newest file.
type release struct {
	version, uri, sha256 string
}

const (
	header      = "[[metadata.dependencies]]"
	maxAnswer   = 8 << 20
	maxDownload = 256 << 20
)

// file rewrites a buildpack.toml.
func (u updater) file(ctx context.Context, name string) error {
	before, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	after, err := u.text(ctx, string(before))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if after == string(before) {
		return nil
	}
	if err := os.WriteFile(name, []byte(after), 0o644); err != nil {
		return err
	}
	return page(filepath.Join(filepath.Dir(name), "docs/limits.md"), nixOf(string(before)), nixOf(after))
}

// page rewrites the version of Nix in the row that has it of the page of supported versions, which a test compares.
func page(name, have, newest string) error {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	const row = "| Nix that evaluates | "
	after := strings.Replace(string(text), row+have+",", row+newest+",", 1)
	if after == string(text) {
		return nil
	}
	return os.WriteFile(name, []byte(after), 0o644)
}

// nixOf is the version of Nix that a buildpack.toml pins, "" where it pins none.
func nixOf(text string) string {
	for _, part := range strings.Split(text, header)[1:] {
		if field(part, "id") == "nix" {
			return field(part, "version")
		}
	}
	return ""
}

// text rewrites each dependency of a buildpack.toml, with what follows it up to the next one.
func (u updater) text(ctx context.Context, text string) (string, error) {
	parts := strings.Split(text, header)
	if len(parts) == 1 {
		return "", fmt.Errorf("there is no %s in it", header)
	}
	for i, part := range parts[1:] {
		updated, err := u.dependency(ctx, part)
		if err != nil {
			return "", fmt.Errorf("updating %s: %w", field(part, "id"), err)
		}
		parts[i+1] = updated
	}
	return strings.Join(parts, header), nil
}

// dependency rewrites one of them.
func (u updater) dependency(ctx context.Context, part string) (string, error) {
	have := release{version: field(part, "version"), uri: field(part, "uri"), sha256: strings.TrimPrefix(field(part, "checksum"), "sha256:")}
	var newest release
	var err error
	switch field(part, "id") {
	case "nix":
		newest, err = u.newestNix(ctx, have)
	case "proot":
		newest, err = u.newestPRoot(ctx, have)
	default:
		return part, nil
	}
	if err != nil || newest == have || !newer(newest.version, have.version) {
		return part, err
	}
	fmt.Fprintf(u.out, "%s: %s -> %s (%s)\n", field(part, "id"), have.version, newest.version, newest.uri)
	part = strings.ReplaceAll(part, have.uri, newest.uri)
	part = strings.ReplaceAll(part, have.sha256, newest.sha256)
	whole := regexp.MustCompile(`(^|[^0-9.])` + regexp.QuoteMeta(have.version) + `($|[^0-9.])`)
	return whole.ReplaceAllString(part, "${1}"+newest.version+"${2}"), nil
}

// field is the value of a key of a dependency.
func field(part, key string) string {
	found := regexp.MustCompile(`(?m)^` + key + ` = "([^"]*)"`).FindStringSubmatch(part)
	if found == nil {
		return ""
	}
	return found[1]
}

// newestNix is the newest release of Nix that has a file for the same system, with the checksum that is published
// beside it.
func (u updater) newestNix(ctx context.Context, have release) (release, error) {
	var tags []struct{ Name string }
	if err := u.json(ctx, u.api+"/NixOS/nix/tags?per_page=100", &tags); err != nil {
		return release{}, err
	}
	var versions []string
	for _, tag := range tags {
		if parse(tag.Name) != nil && newer(tag.Name, have.version) {
			versions = append(versions, tag.Name)
		}
	}
	slices.SortFunc(versions, func(a, b string) int { return compare(b, a) })
	for _, version := range versions {
		uri := u.nix + "/" + strings.ReplaceAll(have.uri[strings.LastIndex(have.uri, "/nix-"+have.version+"/")+1:], have.version, version)
		sum, err := u.get(ctx, uri+".sha256", maxAnswer)
		var status statusError
		if errors.As(err, &status) && status == http.StatusNotFound {
			continue // tagged, and not released yet
		}
		if err != nil {
			return release{}, err
		}
		text := strings.ToLower(strings.TrimSpace(string(sum)))
		if decoded, err := hex.DecodeString(text); err != nil || len(decoded) != sha256.Size {
			return release{}, fmt.Errorf("%s.sha256 holds no checksum", uri)
		}
		return release{version: version, uri: uri, sha256: text}, nil
	}
	return have, nil
}

// newestPRoot is the newest release of PRoot that has a file of the same name, at the same address, but for the version.
func (u updater) newestPRoot(ctx context.Context, have release) (release, error) {
	var releases []struct {
		Tag               string `json:"tag_name"`
		Draft, Prerelease bool
		Assets            []struct {
			Name string
			URL  string `json:"browser_download_url"`
		}
	}
	if err := u.json(ctx, u.api+"/proot-me/proot/releases?per_page=50", &releases); err != nil {
		return release{}, err
	}
	newest := have
	base := have.uri[strings.LastIndexByte(have.uri, '/')+1:]
	for _, r := range releases {
		version := strings.TrimPrefix(r.Tag, "v")
		if r.Draft || r.Prerelease || parse(version) == nil || !newer(version, newest.version) {
			continue
		}
		for _, asset := range r.Assets {
			if asset.Name == strings.ReplaceAll(base, have.version, version) {
				newest = release{version: version, uri: strings.ReplaceAll(have.uri, have.version, version)}
				if asset.URL != newest.uri {
					return release{}, fmt.Errorf("release %s has %s at %q, want %s", version, asset.Name, asset.URL, newest.uri)
				}
			}
		}
	}
	if newest == have {
		return have, nil
	}
	program, err := u.get(ctx, newest.uri, maxDownload)
	if err != nil {
		return release{}, err
	}
	if !strings.HasPrefix(string(program), "\x7fELF") {
		return release{}, fmt.Errorf("%s is no program", newest.uri)
	}
	sum := sha256.Sum256(program)
	newest.sha256 = hex.EncodeToString(sum[:])
	return newest, nil
}

// statusError is an answer other than 200.
type statusError int

// Error names it.
func (s statusError) Error() string { return "HTTP status " + strconv.Itoa(int(s)) }

// get downloads a file of at most limit bytes.
func (u updater) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if u.token != "" && strings.HasPrefix(address, u.api+"/") {
		request.Header.Set("Authorization", "Bearer "+u.token)
	}
	answer, err := u.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking %s: %w", address, statusError(answer.StatusCode))
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("asking %s: more than %d bytes", address, limit)
	}
	return data, err
}

func (u updater) json(ctx context.Context, address string, into any) error {
	data, err := u.get(ctx, address, maxAnswer)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	return err
}

// versionText is a version of three numbers, or two, as it may stand in a file, an address and a shell.
var versionText = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,8})(?:\.(?:0|[1-9][0-9]{0,8})){1,2}$`)

// parse reads a version; nil where it is none.
func parse(version string) []int {
	if !versionText.MatchString(version) {
		return nil
	}
	var numbers []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		numbers = append(numbers, n)
	}
	return numbers
}

func compare(a, b string) int { return slices.Compare(parse(a), parse(b)) }

func newer(a, b string) bool { return compare(a, b) > 0 }

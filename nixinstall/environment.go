package nixinstall

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// passedOn are the variables of the build that Nix may see beside nixpkgs' own: none of them reaches a derivation, and
// every other one could, by builtins.getEnv. PATH is for git and ssh, which Nix runs to fetch sources.
var passedOn = []string{
	"PATH", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM",
	"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
	"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
	"AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
	"GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "SSH_AUTH_SOCK",
}

// systemBundles are the places where distributions keep their certificate authorities.
var systemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// connectTimeout is how long a server may take to accept a connection.
const connectTimeout = 5 * time.Second

// root is the directory of the chroot store: "/nix/store" lives at root + "/nix/store".
func (s Settings) root() string { return filepath.Join(s.State, "root") }

// home is the HOME that Nix keeps its caches in.
func (s Settings) home() string { return filepath.Join(s.State, "home") }

// physical is where a path of the chroot store really is.
func (s Settings) physical(storePath string) string { return filepath.Join(s.root(), storePath) }

// environment is everything that Nix sees of the environment.
func (t Toolchain) environment(configDir string) []string {
	s := t.settings
	env := []string{
		"HOME=" + s.home(),
		"NIX_CONF_DIR=" + configDir,
		"NIX_USER_CONF_FILES=",
		// Where there is no network but loopback, Nix does without the substituters that nix.conf names, unless somebody
		// has said otherwise in another place (NixOS/nix: src/nix/main.cc, haveInternet).
		"NIX_CONFIG=substitute = true",
		"NIX_STATE_DIR=" + filepath.Join(s.root(), "nix/var/nix"),
		"NIX_LOG_DIR=" + filepath.Join(s.root(), "nix/var/log/nix"),
	}
	if bundle := filepath.Join(configDir, bundleName); isFile(bundle) {
		env = append(env, "NIX_SSL_CERT_FILE="+bundle)
	}
	for _, entry := range s.Environment {
		name, _, _ := strings.Cut(entry, "=")
		if slices.Contains(passedOn, name) {
			env = append(env, entry)
		}
	}
	return append(env, Variables(s.Environment)...)
}

// getenv is a variable of the build's environment.
func (s Settings) getenv(name string) string {
	for _, entry := range slices.Backward(s.Environment) { // the last one counts
		if value, ok := strings.CutPrefix(entry, name+"="); ok && value != "" {
			return value
		}
	}
	return ""
}

// bundleName is the file beside nix.conf that holds the certificate authorities.
const bundleName = "ca-bundle.crt"

// bundle has all certificate authorities to trust, in PEM.
func (t Toolchain) bundle() ([]byte, error) {
	var bundle []byte
	for _, file := range t.certificates() {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading certificate authorities: %w", err)
		}
		bundle = append(append(bundle, pem...), '\n')
	}
	for _, pem := range t.settings.Authorities {
		bundle = append(append(bundle, pem...), '\n')
	}
	return bundle, nil
}

// certificates are the files of certificate authorities: those that the environment names, and the system's or else the
// toolchain's own.
func (t Toolchain) certificates() []string {
	var files []string
	for _, name := range []string{"NIX_SSL_CERT_FILE", "SSL_CERT_FILE"} {
		if file := t.settings.getenv(name); isFile(file) && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for _, file := range systemBundles {
		if isFile(file) {
			return append(files, file)
		}
	}
	own := filepath.Join(t.Metadata.Prefix, t.Metadata.Certificates, "etc/ssl/certs", bundleName)
	if t.Metadata.Certificates != "" && isFile(own) {
		files = append(files, own)
	}
	return files
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// config is the one nix.conf that Nix reads. pure says that nothing outside the store and locked inputs may be read.
func (t Toolchain) config(pure bool) (string, error) {
	s := t.settings
	netrc := s.NetrcFile
	if netrc == "" {
		netrc = os.DevNull
	}
	lines := [][2]string{
		{"store", "local?root=" + escapePath(s.root())},
		{"experimental-features", strings.Join(slices.Concat(ownFeatures, Features(s.Environment)), " ")},
		// Nothing is built, here or elsewhere.
		{"max-jobs", "0"}, {"builders", ""}, {"fallback", "false"}, {"post-build-hook", ""},
		{"build-users-group", ""}, {"sandbox", "false"},
		{"substitute", "true"}, {"substituters", strings.Join(s.Substituters, " ")}, {"trusted-substituters", ""},
		{"trusted-public-keys", strings.Join(s.TrustedPublicKeys, " ")},
		{"require-sigs", strconv.FormatBool(s.RequireSigs)},
		{"connect-timeout", strconv.Itoa(int(connectTimeout.Seconds()))},
		{"stalled-download-timeout", "20"}, {"download-attempts", "3"},
		// A path that a cache did not have a minute ago may be there now: the push often follows the build.
		{"narinfo-cache-negative-ttl", "0"}, {"narinfo-cache-positive-ttl", "0"},
		// What is fetched without a hash is as old as this toolchain's settings, at most.
		{"tarball-ttl", strconv.Itoa(int(time.Since(t.since) / time.Second))},
		// Not the variable NIX_PATH, which takes the colon before a port for the end of an entry.
		{"nix-path", strings.Join(s.NixPath, " ")},
		{"netrc-file", netrc},
		{"accept-flake-config", "false"}, {"warn-dirty", "false"},
		{"allow-import-from-derivation", "true"}, {"pure-eval", strconv.FormatBool(pure)}, {"restrict-eval", "false"},
		{"use-xdg-base-directories", "false"}, {"eval-cache", "false"}, {"auto-optimise-store", "false"},
		{"show-trace", "true"}, {"keep-outputs", "false"}, {"keep-derivations", "false"},
		// The store is a cache: what a crash loses is fetched again.
		{"fsync-metadata", "false"}, {"fsync-store-paths", "false"},
	}
	if pure || !s.registry {
		lines = append(lines, [2]string{"flake-registry", ""})
	}
	if pure { // what a registry says may be another tomorrow
		lines = append(lines, [2]string{"use-registries", "false"})
	}
	if s.System != "" {
		lines = append(lines, [2]string{"system", s.System})
	}
	var out strings.Builder
	for _, line := range lines {
		if strings.ContainsAny(line[1], "\n\r\x00") {
			return "", fmt.Errorf("writing nix.conf: the value of %s has a line break", line[0])
		}
		out.WriteString(line[0] + " = " + line[1] + "\n")
	}
	return out.String(), nil
}

// escapePath writes a path for a store URL's query.
func escapePath(path string) string {
	return strings.ReplaceAll(url.QueryEscape(path), "%2F", "/")
}

// configDir writes nix.conf, and the certificate authorities beside it, where only this user can read them; nix.conf
// may hold credentials of substituters. The caller removes the directory.
func (t Toolchain) configDir(pure bool, bundle []byte) (string, error) {
	text, err := t.config(pure)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "nix-conf-")
	if err != nil {
		return "", fmt.Errorf("writing nix.conf: %w", err)
	}
	files := map[string][]byte{"nix.conf": []byte(text)}
	if len(bundle) > 0 {
		files[bundleName] = bundle
	}
	for name, contents := range files {
		if err := os.WriteFile(filepath.Join(dir, name), contents, 0o600); err != nil {
			os.RemoveAll(dir)
			return "", fmt.Errorf("writing nix.conf: %w", err)
		}
	}
	return dir, nil
}

package nixproot

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/buildpacks/libcnb/v2"
	"github.com/paketo-buildpacks/libpak/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/internal/regularfile"
)

// The types of service bindings that are used here. Their letters' case does not matter.
const (
	// cacheType describes private binary caches.
	cacheType = "nix-binary-cache"
	// authoritiesType holds certificates in PEM form, under any names (paketo-buildpacks/ca-certificates).
	authoritiesType = "ca-certificates"
	// mappingType and mirrorType say where to download dependencies from; libpak reads them.
	mappingType = "dependency-mapping"
	mirrorType  = "dependency-mirror"
	// mirrorVariable begins the variables that say the same as a binding of mirrorType.
	mirrorVariable = "BP_DEPENDENCY_MIRROR"
)

// cacheBinding is a private binary cache as a service binding gives it: files named url, public-key, and one of
// username with password, token, or netrc. ca-certificate is optional. One of type ca-certificates has that alone.
type cacheBinding struct {
	Name          string
	URL           string
	PublicKeys    string
	Username      string
	Password      string
	Token         string
	Netrc         string
	CACertificate string
}

// serviceBindings are a platform's service bindings, as far as they are for this buildpack.
type serviceBindings struct {
	// Caches are those of type nix-binary-cache, one for each of their URLs, and of ca-certificates.
	Caches []cacheBinding
	// Unused says of each of the others why it is not used.
	Unused []string
}

// readBindings reads the service bindings: all of them in the layout of today, and what they are for. Variables may say what a
// binding says of mirrors.
func readBindings(ctx context.Context, given libcnb.Bindings, buildpack libcnb.Buildpack) (libcnb.Bindings, serviceBindings, error) {
	metadata, err := libpak.NewBuildModuleMetadata(buildpack.Metadata)
	if err != nil {
		return nil, serviceBindings{}, fmt.Errorf("reading buildpack.toml: %w", err)
	}
	all, err := withOldLayouts(ctx, given)
	if err != nil {
		return nil, serviceBindings{}, err
	}
	sorted, err := sortBindings(all, metadata.Dependencies)
	return all, sorted, cmp.Or(err, checkMirrors(os.Environ()))
}

// sortBindings sorts the service bindings by their types. What could be meant for this buildpack and cannot be used is
// an error, since the cache would be without its password and the reader of the log without a reason; what is meant for
// somebody else is said in Unused. pinned are what this buildpack may download.
func sortBindings(bindings libcnb.Bindings, pinned []libpak.BuildModuleDependency) (serviceBindings, error) {
	var read serviceBindings
	for _, binding := range bindings {
		var caches []cacheBinding
		var err error
		switch strings.ToLower(binding.Type) {
		case cacheType:
			caches, err = readCaches(binding)
		case authoritiesType:
			if caches, err = readAuthorities(binding); len(caches) == 0 {
				read.unused(binding, "is of type "+authoritiesType+" and has no certificate")
			}
		case mappingType:
			if !mapsAny(binding, pinned) {
				read.unused(binding, "maps nothing that this buildpack downloads")
			}
		case mirrorType: // any host may be mirrored
			if len(binding.Secret) == 0 {
				read.unused(binding, "is of type "+mirrorType+" and names no mirror")
			}
			for _, key := range slices.Sorted(maps.Keys(binding.Secret)) {
				if !isMirror(binding.Secret[key]) {
					err = cmp.Or(err, fmt.Errorf("the service binding %q of type %s has %q, which %s", binding.Name, mirrorType, key, noMirror))
				}
			}
		case "":
			read.unused(binding, `has no file "type", which says what it is for: here `+cacheType+", "+
				authoritiesType+" or "+mappingType)
		default:
			read.unused(binding, otherType(binding.Type))
		}
		if err != nil {
			return serviceBindings{}, err
		}
		read.Caches = append(read.Caches, caches...)
	}
	return read, nil
}

func (b *serviceBindings) unused(binding libcnb.Binding, why string) {
	b.Unused = append(b.Unused, fmt.Sprintf("%q %s", binding.Name, why))
}

// otherType is why a binding with a type is not used; a type that is nearly right has a hint.
func otherType(is string) string {
	lower := strings.ToLower(is)
	if strings.Contains(lower, "nix") || strings.Contains(lower, "cache") {
		return fmt.Sprintf("is of type %q; binary caches are of type %s", is, cacheType)
	}
	if meant := nearest(lower, []string{authoritiesType, mappingType, mirrorType}); meant != "" {
		return fmt.Sprintf("is of type %q, which is not for this buildpack; did you mean %s?", is, meant)
	}
	return fmt.Sprintf("is of type %q, which is not for this buildpack", is)
}

// maxBindingFile bounds a file of a binding, in bytes.
const maxBindingFile = 1 << 20

// withOldLayouts are bindings as they are, those of the layout before included.
func withOldLayouts(ctx context.Context, bindings libcnb.Bindings) (libcnb.Bindings, error) {
	var all libcnb.Bindings
	for _, binding := range bindings {
		binding, err := withOldLayout(ctx, binding)
		if err != nil {
			return nil, err
		}
		all = append(all, binding)
	}
	return all, nil
}

// withOldLayout is a binding with what it has in the layout of the CNB bindings extension before the Service Binding
// specification: metadata/kind, and files in secret (buildpacks/spec: extensions/bindings.md, 0.1).
func withOldLayout(ctx context.Context, binding libcnb.Binding) (libcnb.Binding, error) {
	if binding.Type != "" || binding.Path == "" {
		return binding, nil
	}
	kind, err := bindingFile(ctx, filepath.Join(binding.Path, "metadata", "kind"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // as with a README beside the bindings
		return binding, nil
	}
	secret := map[string]string{}
	maps.Copy(secret, binding.Secret)
	entries, dirErr := os.ReadDir(filepath.Join(binding.Path, "secret"))
	if errors.Is(dirErr, fs.ErrNotExist) {
		dirErr = nil
	}
	err = errors.Join(err, dirErr)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") { // Kubernetes keeps the files of a Secret in ..data
			continue
		}
		value, readErr := bindingFile(ctx, filepath.Join(binding.Path, "secret", entry.Name()))
		secret[entry.Name()] = value
		err = errors.Join(err, readErr)
	}
	if err != nil {
		return binding, fmt.Errorf("reading the service binding %q: %w", binding.Name, err)
	}
	binding.Type, binding.Secret = kind, secret
	return binding, nil
}

// bindingFile reads a file of a binding, which may be a link, as Kubernetes makes them.
func bindingFile(ctx context.Context, name string) (string, error) {
	text, err := regularfile.ReadLinked(ctx, name, maxBindingFile)
	return strings.TrimSpace(string(text)), err
}

// bindingsDir is where libcnb looks for service bindings that are files.
func bindingsDir() string {
	if dir, ok := os.LookupEnv(libcnb.EnvServiceBindings); ok {
		return dir
	}
	return filepath.Join(os.Getenv(libcnb.EnvPlatformDirectory), "bindings")
}

// maxBindings bounds the files of all bindings together, in bytes. Somebody else's may be larger than ours.
const maxBindings = 64 << 20

// checkBindings fails at the first service binding that libcnb cannot read, which reads all of them before this buildpack is asked
// anything: it waits at a FIFO, does not say of a link that leads nowhere which binding has it, reads files of any size, and takes
// a binding's name for a pattern, by which it may find none of its files, or another binding's.
func checkBindings(dir string) error {
	bindings, err := os.ReadDir(dir)
	if err != nil {
		return nil // libcnb says so, where it is there
	}
	var size int64
	for _, binding := range bindings {
		files, err := os.ReadDir(filepath.Join(dir, binding.Name()))
		if err != nil || strings.HasPrefix(binding.Name(), ".") {
			continue
		}
		if strings.ContainsAny(binding.Name(), `*?[\`) {
			return fmt.Errorf("the service binding %q has one of *, ?, [ and \\ in its name, which would be a pattern; name it otherwise",
				binding.Name())
		}
		for _, file := range files {
			name := filepath.Join(dir, binding.Name(), file.Name())
			info, err := os.Stat(name)
			switch {
			case strings.HasPrefix(file.Name(), "."), err == nil && info.IsDir():
				continue
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("the service binding %q has %q, a link that leads nowhere; correct the link or remove it",
					binding.Name(), file.Name())
			case err == nil && !info.Mode().IsRegular():
				return fmt.Errorf("the service binding %q has %q, which is no regular file; remove it", binding.Name(), file.Name())
			case err == nil:
				if size += info.Size(); size > maxBindings {
					return fmt.Errorf("the service binding %q has %q, with which all bindings have more than %d bytes; remove it", binding.Name(),
						file.Name(), maxBindings)
				}
			}
		}
	}
	return nil
}

// readCaches reads a binding of type nix-binary-cache. An unknown key is an error.
func readCaches(binding libcnb.Binding) ([]cacheBinding, error) {
	b := cacheBinding{Name: binding.Name}
	fields := map[string]*string{
		"url": &b.URL, "public-key": &b.PublicKeys, "username": &b.Username, "password": &b.Password,
		"token": &b.Token, "netrc": &b.Netrc, "ca-certificate": &b.CACertificate,
	}
	taken := map[string]string{} // by which spelling
	for _, key := range slices.Sorted(maps.Keys(binding.Secret)) {
		field, known := fields[strings.ToLower(key)]
		if other, twice := taken[strings.ToLower(key)]; twice {
			return nil, fmt.Errorf("the service binding %q of type %s has both %q and %q; leave one of them out", binding.Name,
				cacheType, other, key)
		}
		taken[strings.ToLower(key)] = key
		if !known {
			return nil, fmt.Errorf("the service binding %q of type %s has %q; it may have url, public-key, username, "+
				"password, token, netrc and ca-certificate", binding.Name, cacheType, key)
		}
		if *field = binding.Secret[key]; *field == "" && isLogin(key) { // it would be as if it were not there, and the cache without its login
			return nil, fmt.Errorf("the service binding %q of type %s has an empty %q, as from a secret that is not set; give it its "+
				"value or leave it out", binding.Name, cacheType, key)
		}
	}
	urls := strings.FieldsFunc(b.URL, func(c rune) bool { return strings.ContainsRune(" \t\r\n,", c) })
	switch {
	case len(urls) == 0 && b.Netrc == "":
		return nil, fmt.Errorf("the service binding %q of type %s has no url; add a file of that name with the cache's address, "+
			"such as https://cache.example.org", binding.Name, cacheType)
	case (b.Username == "") != (b.Password == ""):
		return nil, fmt.Errorf("the service binding %q of type %s needs both username and password, or neither",
			binding.Name, cacheType)
	case b.Netrc != "" && len(cache.ParseNetrc(b.Netrc)) == 0:
		return nil, fmt.Errorf("the service binding %q of type %s has a netrc that names no machine; a line is "+
			"\"machine cache.example.org login NAME password WORD\"", binding.Name, cacheType)
	case (b.Username != "" || b.Token != "") && slices.ContainsFunc(urls, isS3):
		return nil, fmt.Errorf("the service binding %q of type %s has a login for an s3:// url, which takes AWS's own alone: give the build "+
			"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in its environment", binding.Name, cacheType)
	case b.Username != "" && b.Token != "":
		return nil, fmt.Errorf("the service binding %q of type %s has both a token and a username with a password; leave "+
			"one of them out", binding.Name, cacheType)
	case strings.ContainsFunc(b.Token, unicode.IsControl):
		return nil, fmt.Errorf("the service binding %q of type %s has a token with a line break, or another character that no request "+
			"can carry; it takes one line", binding.Name, cacheType)
	case strings.Contains(b.Username, ":"):
		return nil, fmt.Errorf("the service binding %q of type %s has a username with a colon, where its password would begin (RFC 7617); "+
			"leave the password out of it", binding.Name, cacheType)
	case b.CACertificate != "" && !hasCertificate(b.CACertificate):
		return nil, fmt.Errorf("the service binding %q of type %s has a ca-certificate that holds %s", binding.Name, cacheType,
			noCertificate)
	case len(urls) == 0:
		return []cacheBinding{b}, nil
	}
	var caches []cacheBinding
	for i, address := range urls {
		if err := checkCache(address); err != nil {
			return nil, fmt.Errorf("reading url of the service binding %q of type %s: %w; a cache looks like "+
				"https://cache.example.org", binding.Name, cacheType, err)
		}
		if hasLogin(address) && (b.Username != "" || b.Token != "") {
			return nil, fmt.Errorf("the service binding %q of type %s has a login in its url and another beside it; leave one of "+
				"them out", binding.Name, cacheType)
		}
		one := b
		if one.URL = address; i > 0 { // these are for all of them already
			one.PublicKeys, one.Netrc, one.CACertificate = "", "", ""
		}
		caches = append(caches, one)
	}
	return caches, nil
}

// isLogin reports whether a key of a cache's binding is of its login.
func isLogin(key string) bool {
	return slices.Contains([]string{"username", "password", "token", "netrc"}, strings.ToLower(key))
}

// isS3 reports whether a cache is a bucket.
func isS3(address string) bool { return strings.HasPrefix(strings.ToLower(address), "s3:") }

// hasLogin reports whether a cache's address has a login in it.
func hasLogin(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.User != nil
}

// noCertificate is what a text without a certificate lacks. Others than PEM are read nowhere else either.
const noCertificate = "no certificate in PEM form (BEGIN CERTIFICATE); convert it (openssl x509 -inform der) or leave it out"

// hasCertificate reports whether a text holds a certificate in PEM form.
func hasCertificate(pem string) bool { return x509.NewCertPool().AppendCertsFromPEM([]byte(pem)) }

// readAuthorities reads a binding of type ca-certificates.
func readAuthorities(binding libcnb.Binding) ([]cacheBinding, error) {
	var caches []cacheBinding
	for _, key := range slices.Sorted(maps.Keys(binding.Secret)) {
		pem := binding.Secret[key]
		if !hasCertificate(pem) {
			return nil, fmt.Errorf("the service binding %q of type %s has %q, which holds %s", binding.Name,
				authoritiesType, key, noCertificate)
		}
		caches = append(caches, cacheBinding{Name: binding.Name, CACertificate: pem})
	}
	return caches, nil
}

// noMirror is what a mirror's address has to be.
const noMirror = "is no URL that begins with https:// or file://, as a mirror's does"

// isMirror reports whether libpak can take a text for a mirror: an address, or words with commas between them of which one is, or is
// mirror=ADDRESS (DependencyCache.setDependencyMirror, which ends the program at what is no address at all).
func isMirror(text string) bool {
	address := text
	for _, word := range strings.Split(text, ",") {
		name, value, named := strings.Cut(word, "=")
		switch {
		case named && name == "mirror":
			address = value
		case !named && (strings.HasPrefix(word, "https") || strings.HasPrefix(word, "file")):
			address = word
		}
	}
	if plain, err := url.PathUnescape(address); err == nil {
		address = plain
	}
	u, err := url.ParseRequestURI(address)
	return text == "" || err == nil && (strings.EqualFold(u.Scheme, "https") || strings.EqualFold(u.Scheme, "file"))
}

// checkMirrors fails for a variable of libpak's that names a mirror which is none.
func checkMirrors(environ []string) error {
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, mirrorVariable) && !isMirror(value) {
			return fmt.Errorf("%s %s", name, noMirror)
		}
	}
	return nil
}

// mapsAny reports whether a binding of type dependency-mapping has the checksum of anything that is pinned.
func mapsAny(binding libcnb.Binding, pinned []libpak.BuildModuleDependency) bool {
	return slices.ContainsFunc(pinned, func(d libpak.BuildModuleDependency) bool {
		_, found := binding.Secret[d.GetChecksum().Hash()]
		return found
	})
}

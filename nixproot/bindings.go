package nixproot

import (
	"fmt"
	"strings"

	"github.com/buildpacks/libcnb/v2"
)

// cacheBinding is the type of a service binding that describes a private binary cache.
const cacheBinding = "nix-binary-cache"

// CacheBinding is a private binary cache as a service binding gives it: files named url, public-key, and one of
// username with password, token, or netrc. ca-certificate is optional.
type CacheBinding struct {
	Name          string
	URL           string
	PublicKeys    string
	Username      string
	Password      string
	Token         string
	Netrc         string
	CACertificate string
}

// ReadCacheBindings finds the bindings of type nix-binary-cache. A key it does not know is an error, since a
// misspelled one would leave the cache without its password and the reader of the log without a reason.
func ReadCacheBindings(bindings libcnb.Bindings) ([]CacheBinding, error) {
	var caches []CacheBinding
	for _, binding := range bindings {
		if !strings.EqualFold(binding.Type, cacheBinding) {
			continue
		}
		b := CacheBinding{Name: binding.Name}
		fields := map[string]*string{
			"url": &b.URL, "public-key": &b.PublicKeys, "username": &b.Username, "password": &b.Password,
			"token": &b.Token, "netrc": &b.Netrc, "ca-certificate": &b.CACertificate,
		}
		for key, value := range binding.Secret {
			field, known := fields[strings.ToLower(key)]
			if !known {
				return nil, fmt.Errorf("the service binding %q of type %s has %q; it may have url, public-key, username, "+
					"password, token, netrc and ca-certificate", binding.Name, cacheBinding, key)
			}
			*field = value
		}
		if b.URL == "" && b.Netrc == "" {
			return nil, fmt.Errorf("the service binding %q of type %s has no url", binding.Name, cacheBinding)
		}
		if (b.Username == "") != (b.Password == "") {
			return nil, fmt.Errorf("the service binding %q of type %s needs both username and password, or neither",
				binding.Name, cacheBinding)
		}
		caches = append(caches, b)
	}
	return caches, nil
}

package cache

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// LoginFor is the login that a Set with these options would send to an address that the user has named; ok is false where
// there is none.
func LoginFor(o Options, address string) (login Credential, ok bool, err error) {
	o = o.withDefaults()
	a, err := parseAddress(address)
	if err != nil {
		return Credential{}, false, err
	}
	u, err := url.Parse(address)
	if err != nil {
		return Credential{}, false, fmt.Errorf("finding a login: the address is not a URL")
	}
	all, err := newLogins(o.addresses(a), o.Credentials, o.Netrc, o.Getenv)
	if err != nil {
		return Credential{}, false, err
	}
	u.User = nil
	header := all.header(u)
	if token, bearer := strings.CutPrefix(header, "Bearer "); bearer {
		return Credential{URL: u.String(), Token: token}, true, nil
	}
	encoded, isBasic := strings.CutPrefix(header, "Basic ")
	plain, err := base64.StdEncoding.DecodeString(encoded)
	if !isBasic || err != nil {
		return Credential{}, false, nil
	}
	username, password, _ := strings.Cut(string(plain), ":")
	return Credential{URL: u.String(), Username: username, Password: password}, true, nil
}

// addresses are the caches that can be read, and one more.
func (o Options) addresses(more *address) []*address {
	all := []*address{more}
	for _, raw := range o.URLs {
		if a, err := parseAddress(raw); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// Package proxies reads the variables that name proxies.
package proxies

import (
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// Variables gives the proxy of a URL, nil for none, as the variables https_proxy, http_proxy, all_proxy and no_proxy have it: those
// in small letters win over those in capitals, as with curl and so with Nix. What is no proxy's address is logged by the
// variable's name, since it may hold a password, and left out.
func Variables(env func(string) string, log func(string, ...any)) func(*url.URL) (*url.URL, error) {
	first := func(names ...string) string {
		for _, name := range names {
			for _, name := range []string{name, strings.ToUpper(name)} {
				switch v := env(name); {
				case v == "":
				case !isProxy(v):
					log("the proxy in %s is not a URL: it is ignored", name)
				default:
					return v
				}
			}
		}
		return ""
	}
	c := httpproxy.Config{
		HTTPProxy:  first("http_proxy", "all_proxy"),
		HTTPSProxy: first("https_proxy", "all_proxy"),
		NoProxy:    Exceptions(env),
	}
	return c.ProxyFunc()
}

// Exceptions are the hosts that are asked without a proxy.
func Exceptions(env func(string) string) string {
	if v := env("no_proxy"); v != "" {
		return v
	}
	return env("NO_PROXY")
}

// isProxy reports whether an address is a proxy's for httpproxy, which may lack its scheme. What has one and is no URL is
// none: httpproxy would ask a host named "http".
func isProxy(address string) bool {
	u, err := url.Parse(address)
	if err != nil && strings.Contains(address, "://") {
		return false
	}
	if err != nil || u.Scheme == "" || u.Host == "" {
		u, err = url.Parse("http://" + address)
	}
	return err == nil && u.Host != ""
}

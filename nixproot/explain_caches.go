package nixproot

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/cache"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

// askedOf is what each cache said of which an error is about.
func askedOf(err error) []cache.Answer {
	var (
		notFound  *cache.NotFoundError
		unopened  *cache.OpenError
		unfetched *cache.FetchError
	)
	switch {
	case errors.As(err, &notFound):
		return notFound.Asked
	case errors.As(err, &unopened):
		return unopened.Asked
	case errors.As(err, &unfetched):
		return unfetched.Tried
	}
	return nil
}

// askedSteps looks at what each cache said.
func askedSteps(asked []cache.Answer) []string {
	var steps []string
	for _, reason := range []cache.Reason{cache.Untrusted, cache.Invalid, cache.Login, cache.Down, cache.Absent} {
		for _, a := range asked {
			if a.Reason != reason {
				continue
			}
			for _, step := range answerSteps(a) {
				if !slices.Contains(steps, step) {
					steps = append(steps, step)
				}
			}
		}
	}
	return steps
}

// answerSteps are for one cache's answer: for what was wrong with the connection, unless the cache has spoken of the path.
func answerSteps(a cache.Answer) []string {
	if a.Reason != cache.Untrusted && a.Reason != cache.Absent {
		if steps := adviceOn(func(entry advice) facts { return entry.connection.facts(a.Err) }); steps != nil {
			return steps
		}
	}
	return adviceOn(func(entry advice) facts {
		if entry.answer == nil {
			return nil
		}
		return entry.answer(a)
	})
}

// answered is for answers of one reason.
func answered(reason cache.Reason) func(cache.Answer) facts {
	return func(a cache.Answer) facts { return facts{}.when(a.Reason == reason) }
}

// isLoopback reports whether a URL's host is the machine that asks, which in a build is a container.
func isLoopback(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback())
}

// isAltered reports whether a trusted key's name stands on a signature that is not its own.
func isAltered(a cache.Answer) bool {
	return slices.ContainsFunc(a.Trusted, func(key narinfo.PublicKey) bool { return slices.Contains(a.Keys, key.Name) })
}

// keysWith are the trusted keys with the one that signed a path, as the setting takes them.
func keysWith(a cache.Answer) string {
	var keys []string
	for _, key := range a.Trusted {
		keys = append(keys, key.String())
	}
	return strings.Join(append(keys, a.Keys[0]+":<its public key in base64>"), " ")
}

// noNetwork matches an address for which there is no network where the build runs.
func noNetwork(err error) facts {
	address := dialled(err)
	if address == nil {
		return nil
	}
	ipv4 := address.IP.To4() != nil
	unreachable := errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EAFNOSUPPORT) ||
		errors.Is(err, syscall.EADDRNOTAVAIL) && !ipv4 // which also is what a machine without free ports says
	known := facts{"family": "IPv6", "record": "an A record", "host": whoseHost(err)}
	if ipv4 {
		known["family"], known["record"] = "IPv4", "an AAAA record"
	}
	return known.when(unreachable)
}

// noZone matches an address on a link that it does not name, or that is none of this machine's.
func noZone(err error) facts {
	address := dialled(err)
	if address == nil || !address.IP.IsLinkLocalUnicast() || !errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return facts{"address": address.IP.String()}
}

// proxyDown matches a proxy that cannot be reached.
func proxyDown(err error) facts {
	return facts{}.when(isOfProxy(err) && noNetwork(err) == nil && noZone(err) == nil)
}

// isOfProxy reports whether it is the proxy that no connection could be made to.
func isOfProxy(err error) bool {
	var outer *net.OpError
	return errors.As(err, &outer) && outer.Op == "proxyconnect"
}

// whoseHost says whose host it is that no connection could be made to.
func whoseHost(err error) string {
	var silent *hydra.AnswerError
	switch {
	case isOfProxy(err):
		return "the proxy's host"
	case errors.As(err, &silent):
		return "Hydra's host"
	}
	return "the cache's host"
}

// dialled is the address that a connection could not be made to, nil where that is not what an error is about.
func dialled(err error) *net.TCPAddr {
	for op := (*net.OpError)(nil); errors.As(err, &op); err = op.Err {
		if address, ok := op.Addr.(*net.TCPAddr); ok && op.Op == "dial" {
			return address
		}
	}
	return nil
}

// absentReference is for a path that the caches have, and of which none has a path that it refers to. Where one gives
// another answer, the reference may be there, but not for us.
func absentReference(e *closure.MissingError) facts {
	var notFound *cache.NotFoundError
	if len(e.Chain) < 2 || !errors.As(e.Err, &notFound) ||
		slices.ContainsFunc(notFound.Asked, func(a cache.Answer) bool { return a.Reason != cache.Absent }) {
		return nil
	}
	path, reference := e.Chain[len(e.Chain)-2], e.Chain[len(e.Chain)-1]
	return facts{"root": path.Name(), "reference": reference.Name()}
}

// isDefaultCacheAsked reports whether the cache was asked that is the only one where no setting says otherwise.
func isDefaultCacheAsked(err error) bool {
	return slices.ContainsFunc(askedOf(err), func(a cache.Answer) bool { return strings.Contains(a.URL, "cache.nixos.org") })
}

package sbom_test

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

// TestIdentity has bills that differ in anything identified by different names, and the same ones by the same.
func TestIdentity(t *testing.T) {
	RegisterTestingT(t)
	bill := func(change func(*sbom.Bill)) sbom.Bill {
		b := sbom.Bill{
			Root: sbom.Component{Ref: "app", Name: "app", DependsOn: []string{"one", "two"}}, Created: sbom.Created(""), Tool: "tool",
			Components: []sbom.Component{{Ref: "one", Name: "one", Properties: map[string]string{"nix:key": "a"}}, {Ref: "two", Name: "two"}},
		}
		change(&b)
		return b
	}
	identities := func(b sbom.Bill) (all [2]string) {
		for i, write := range []func(*bytes.Buffer) error{
			func(out *bytes.Buffer) error { return b.CycloneDX(out) }, func(out *bytes.Buffer) error { return b.SPDX(out) },
		} {
			var out bytes.Buffer
			Expect(write(&out)).To(Succeed())
			all[i] = regexp.MustCompile(`"(?:serialNumber|documentNamespace)": ?"[^"]+"`).FindString(out.String())
			Expect(all[i]).NotTo(BeEmpty())
		}
		return all
	}
	first := identities(bill(func(*sbom.Bill) {}))
	Expect(identities(bill(func(b *sbom.Bill) {
		b.Root.DependsOn = []string{"two", "one", "two"}
		b.Components[0], b.Components[1] = b.Components[1], b.Components[0]
	}))).To(Equal(first))
	for what, change := range map[string]func(*sbom.Bill){
		"a property": func(b *sbom.Bill) { b.Components[0].Properties["nix:key"] = "b" },
		"a CPE":      func(b *sbom.Bill) { b.Components[1].CPEs = []string{"cpe:2.3:a:two:two:1:*:*:*:*:*:*:*"} },
		"the time":   func(b *sbom.Bill) { b.Created = b.Created.Add(time.Second) },
		"the root":   func(b *sbom.Bill) { b.Root.Version = "2" },
		"the system": func(b *sbom.Bill) { b.Architecture = "arm64" },
		"the tool":   func(b *sbom.Bill) { b.ToolVersion = "2" },
	} {
		now := identities(bill(change))
		Expect(now[0]).NotTo(Equal(first[0]), what)
		Expect(now[1]).NotTo(Equal(first[1]), what)
	}
}

func TestCreated(t *testing.T) {
	RegisterTestingT(t)
	Expect(sbom.Created("1700000000").Unix()).To(BeEquivalentTo(1700000000))
	Expect(sbom.Created("253402300799").Year()).To(Equal(9999))
	for _, odd := range []string{"", "253402300800", "-1", "today"} {
		Expect(sbom.Created(odd)).To(Equal(time.Date(1980, 1, 1, 0, 0, 1, 0, time.UTC)), odd)
	}
}

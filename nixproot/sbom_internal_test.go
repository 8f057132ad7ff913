package nixproot

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/Masterminds/semver/v3"
	"github.com/buildpacks/libcnb/v2"
	. "github.com/onsi/gomega"
	"github.com/package-url/packageurl-go"
	"github.com/paketo-buildpacks/libpak/v2"
	"github.com/sclevine/spec"
	spdxjson "github.com/spdx/tools-golang/json"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

func TestSBOM(t *testing.T) { spec.Run(t, "SBOM", testSBOM) }

func testSBOM(t *testing.T, _ spec.G, it spec.S) {
	const (
		app     = storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-my-app-1.2-rc1")
		openssl = storepath.Path("/nix/store/7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-openssl-3.0.6-bin")
		odd     = storepath.Path("/nix/store/7gx4kiv5m0i7d7qkixq2cwzbr10lvxw9-g++_x?y=z-2+3")
	)
	var (
		graph   *closure.Graph
		options billOptions
		bill    sbom.Bill
	)

	it.Before(func() {
		RegisterTestingT(t)
		graph = &closure.Graph{Roots: []storepath.Path{app}, Nodes: map[storepath.Path]*closure.Node{
			app: {Path: app, NarHash: storepath.Hash{1}, NarSize: 1, References: []storepath.Path{app, openssl, odd},
				Signature: narinfo.Signature{Name: "key-1"}},
			openssl: {Path: openssl, NarHash: storepath.Hash{2}, NarSize: 1},
			odd:     {Path: odd, NarHash: storepath.Hash{3}, NarSize: 1},
		}}
		launcher := filepath.Join(t.TempDir(), "launch")
		Expect(os.WriteFile(launcher, []byte("x"), 0o755)).To(Succeed())
		options = billOptions{
			Version: "0.1.0", System: "aarch64-linux", Licenses: map[storepath.Path][]string{app: {"MIT", "0BSD"}}, Launcher: launcher,
			LauncherPath: "/layers/x/launcher/bin/nix-hydra-launch",
			PlaceOf:      func(p storepath.Path) string { return "/layers/x/view/" + p.Base()[21:] },
			PRoot: &libpak.BuildModuleDependency{
				ID: "proot", Name: "PRoot", Version: "5.4.1", PURLS: []string{"pkg:generic/proot@5.4.1?arch=amd64"},
				Checksum: "sha256:19f44283f5c0e73091c60195f5fcd4f4c1165505e44410d434e2ab1b677c1a09",
				Licenses: []libpak.BuildModuleDependencyLicense{{Type: "GPL-2.0-or-later"}},
			},
		}
		var err error
		bill, err = billOf(graph, options)
		Expect(err).NotTo(HaveOccurred())
	})

	write := func(mediaType string) []byte {
		t.Helper()
		name := filepath.Join(t.TempDir(), "bill")
		Expect(bill.Write(mediaType, name)).To(Succeed())
		text, err := os.ReadFile(name)
		Expect(err).NotTo(HaveOccurred())
		return text
	}

	it("is written in every format that buildpack.toml declares, the same bytes each time", func() {
		descriptor, err := os.ReadFile("../buildpack.toml")
		Expect(err).NotTo(HaveOccurred())
		for mediaType := range sbom.Formats() {
			Expect(string(descriptor)).To(ContainSubstring(mediaType))
			first := write(mediaType)
			bill.Components[0], bill.Components[1] = bill.Components[1], bill.Components[0]
			Expect(write(mediaType)).To(Equal(first), mediaType)
		}
		Expect(bill.Write("text/plain", filepath.Join(t.TempDir(), "x"))).To(MatchError(ContainSubstring("no format")))
	})

	it("is the same bytes whoever signed the closure, and where it came from", func() {
		first := map[string][]byte{}
		for mediaType := range sbom.Formats() {
			first[mediaType] = write(mediaType)
		}
		for what, change := range map[string]func(*closure.Node){
			"another key":         func(n *closure.Node) { n.Signature = narinfo.Signature{Name: "key-2", Data: []byte{1}} },
			"no signature":        func(n *closure.Node) { n.Signature = narinfo.Signature{} },
			"a content address":   func(n *closure.Node) { n.Signature, n.CA = narinfo.Signature{}, "fixed:r:sha256:0" },
			"another cache":       func(n *closure.Node) { n.CacheURL = "https://mirror.example.org" },
			"files taken as fine": func(n *closure.Node) { n.Overruled = []closure.Overruled{{}} },
		} {
			for _, node := range graph.Nodes {
				change(node)
			}
			var err error
			bill, err = billOf(graph, options)
			Expect(err).NotTo(HaveOccurred())
			for mediaType, text := range first {
				Expect(string(write(mediaType))).To(Equal(string(text)), what+" "+mediaType)
			}
		}
	})

	it("says of a store path where it is in the image, relocated or not", func() {
		layers := t.TempDir()
		view, err := relocate.NewView(filepath.Join("/layers", "nixproot_nix-hydra", viewLayer))
		Expect(err).NotTo(HaveOccurred())
		for _, view := range []relocate.View{view, {}} {
			c := &contents{
				Result: &closure.Result{View: view, Groups: []closure.Group{{Layer: "closure-0000-x", Paths: graph.Paths()}}}, layersDir: layers,
			}
			for _, p := range graph.Paths() {
				Expect(os.MkdirAll(c.dirOf(p), 0o755)).To(Succeed())
			}
			Expect(c.writeView(t.Context(), &inputs{layers: libcnb.Layers{Path: layers}})).To(Succeed())
			options.PlaceOf = c.linkTo
			bill, err = billOf(graph, options)
			Expect(err).NotTo(HaveOccurred())
			for _, component := range bill.Components {
				if strings.HasPrefix(component.Ref, storepath.Dir) {
					Expect(filepath.EvalSymlinks(component.Path)).To(Equal(c.dirOf(storepath.Path(component.Ref))))
				}
			}
		}
	})

	it("has a name for whatever a store path may be called, which every format wants", func() {
		for _, name := range []string{"-1.0", "-1.0-lib", "--", "-", "1.0", "lib", "-lib", "x-", "source", "a-1.0-lib-lib"} {
			path, err := storepath.Parse("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-" + name)
			Expect(err).NotTo(HaveOccurred())
			n, v, output := sbom.ParseName(path.Name())
			Expect(n).NotTo(BeEmpty(), name)
			purl, err := packageurl.FromString(sbom.NixPURL(n, v, output, path.HashPart()))
			Expect(err).NotTo(HaveOccurred(), name)
			Expect(purl.Name).To(Equal(n), name)
			Expect(purl.Version).To(Equal(v), name)
		}
	})

	it("dates from 1980 or SOURCE_DATE_EPOCH", func() {
		Expect(sbom.Created("").Format("2006-01-02")).To(Equal("1980-01-01"))
		Expect(sbom.Created("1700000000").Unix()).To(Equal(int64(1700000000)))
		Expect(sbom.Created("-7").Year()).To(Equal(1980))
	})

	it("is CycloneDX with the graph, licences, package URLs, and what is in the image beside the closure", func() {
		var bom cdx.BOM
		Expect(cdx.NewBOMDecoder(bytes.NewReader(write("application/vnd.cyclonedx+json")), cdx.BOMFileFormatJSON).Decode(&bom)).
			To(Succeed())
		Expect(bom.Metadata.Component.Name).To(Equal("my-app"))
		Expect(*bom.Metadata.Component.Properties).To(ContainElement(cdx.Property{Name: "oci:architecture", Value: "arm64"}))
		Expect(bom.Metadata.Timestamp).To(Equal("1980-01-01T00:00:01Z"))
		byName := map[string]cdx.Component{}
		for _, c := range *bom.Components {
			byName[c.Name] = c
			purl, err := packageurl.FromString(c.PackageURL)
			Expect(err).NotTo(HaveOccurred(), c.PackageURL)
			if purl.Type == "nix" {
				Expect(purl.Name).To(Equal(c.Name))
				Expect(purl.Version).To(Equal(c.Version))
				Expect(purl.Qualifiers.Map()).To(HaveKeyWithValue("outputhash", HaveLen(32)))
			}
		}
		Expect(byName).To(And(HaveKey("my-app"), HaveKey("openssl"), HaveKey("PRoot"), HaveKey("nix-hydra-launch")))
		Expect(byName["openssl"].PackageURL).To(HavePrefix("pkg:nix/openssl@3.0.6?output=bin&outputhash="))
		Expect(byName["openssl"].CPE).To(Equal("cpe:2.3:a:openssl:openssl:3.0.6:*:*:*:*:*:*:*"))
		Expect((*byName["PRoot"].Licenses)[0].License.ID).To(Equal("GPL-2.0-or-later"))
		Expect(*byName["my-app"].Licenses).To(HaveLen(2))
		Expect((*byName["my-app"].Licenses)[0].License.ID).To(Equal("MIT"))
		Expect(byName["openssl"].Licenses).To(BeNil())
		Expect(*byName["my-app"].Properties).To(ContainElement(cdx.Property{Name: "nix:output_path", Value: app.String()}))
		depends := map[string][]string{}
		for _, d := range *bom.Dependencies {
			if d.Dependencies != nil {
				depends[d.Ref] = *d.Dependencies
			}
		}
		Expect(depends[app.String()]).To(ConsistOf(openssl.String(), odd.String()))
		Expect(depends["image"]).To(ConsistOf(app.String(), "launcher", "proot@5.4.1"))
	})

	it("is SPDX with the same", func() {
		document, err := spdxjson.Read(bytes.NewReader(write("application/spdx+json")))
		Expect(err).NotTo(HaveOccurred())
		Expect(document.Packages).To(HaveLen(6))
		Expect(document.Packages[0].PackageComment).To(Equal("oci:architecture=arm64"))
		names := map[string]bool{}
		for _, p := range document.Packages {
			Expect(names[string(p.PackageSPDXIdentifier)]).To(BeFalse())
			Expect(string(p.PackageSPDXIdentifier)).To(MatchRegexp(`^[A-Za-z0-9.-]+$`))
			names[string(p.PackageSPDXIdentifier)] = true
		}
		licences := map[string]string{}
		for _, p := range document.Packages {
			licences[p.PackageName] = p.PackageLicenseDeclared
		}
		Expect(licences).To(And(HaveKeyWithValue("my-app", "MIT AND 0BSD"), HaveKeyWithValue("openssl", "NOASSERTION")))
		depends := 0
		for _, r := range document.Relationships {
			if r.Relationship == "DEPENDS_ON" {
				depends++
				Expect(names).To(And(HaveKey(string(r.RefA.ElementRefID)), HaveKey(string(r.RefB.ElementRefID))))
			}
		}
		Expect(depends).To(Equal(5))
		Expect(document.CreationInfo.Created).To(Equal("1980-01-01T00:00:01Z"))
	})

	it("is Syft's JSON with the same", func() {
		var document struct {
			Artifacts []struct {
				ID, Name, Version, Type, PURL string
				CPEs                          []struct{ CPE string }
				Licenses                      []struct{ SPDXExpression string }
				Locations                     []struct{ Path, AccessPath string }
				Metadata                      struct{ Path, OutputHash, Output string }
			}
			ArtifactRelationships []struct{ Parent, Child, Type string }
			Source                struct {
				Type     string
				Metadata struct{ UserInput, Architecture, OS string }
			}
			Schema struct{ Version, URL string }
		}
		Expect(json.Unmarshal(write("application/vnd.syft+json"), &document)).To(Succeed())
		Expect(document.Source.Type).To(Equal("image"))
		Expect(document.Source.Metadata.Architecture).To(Equal("arm64"))
		Expect(document.Source.Metadata.OS).To(Equal("linux"))
		Expect(document.Schema.URL).To(ContainSubstring("anchore/syft"))
		Expect(document.Artifacts).To(HaveLen(5))
		ids := map[string]string{}
		for _, a := range document.Artifacts {
			ids[a.ID] = a.Name
			if a.Name == "my-app" {
				Expect(a.Licenses).To(HaveLen(2))
				Expect(a.Licenses[1].SPDXExpression).To(Equal("0BSD"))
			}
			if a.Name == "openssl" {
				Expect(a.Type).To(Equal("nix"))
				Expect(a.Metadata.Output).To(Equal("bin"))
				Expect(a.Metadata.OutputHash).To(Equal(openssl.HashPart()))
				Expect(a.Metadata.Path).To(Equal(openssl.String()))
				Expect(a.Locations).To(HaveLen(1))
				Expect(a.Locations[0].Path).To(Equal("/layers/x/view/wzbr10lvxwc-openssl-3.0.6-bin"))
				Expect(a.Locations[0].AccessPath).To(Equal(a.Locations[0].Path))
			}
		}
		var of []string
		for _, r := range document.ArtifactRelationships {
			if r.Type == "dependency-of" {
				Expect(ids[r.Child]).To(Equal("my-app"))
				of = append(of, ids[r.Parent])
			}
		}
		Expect(of).To(ConsistOf("openssl", "g++_x?y=z"))
	})

	it("lets a scanner find a version that is known to be vulnerable, and no other, in each format", func() {
		raw, err := os.ReadFile("testdata/advisory.json")
		Expect(err).NotTo(HaveOccurred())
		var advisory struct{ ID, CPE, From, Before string }
		Expect(json.Unmarshal(raw, &advisory)).To(Succeed())
		vulnerable, err := semver.NewConstraint(">= " + advisory.From + ", < " + advisory.Before)
		Expect(err).NotTo(HaveOccurred())
		// matches is what a scanner does with a component's CPE.
		matches := func(cpe string) bool {
			parts := strings.Split(cpe, ":")
			return len(parts) > 5 && strings.Join(parts[:5], ":") == advisory.CPE && vulnerable.Check(semver.MustParse(parts[5]))
		}
		find := func() (found []string) {
			var bom cdx.BOM
			Expect(cdx.NewBOMDecoder(bytes.NewReader(write("application/vnd.cyclonedx+json")), cdx.BOMFileFormatJSON).Decode(&bom)).
				To(Succeed())
			for _, c := range *bom.Components {
				if matches(c.CPE) {
					found = append(found, c.Name)
				}
			}
			document, err := spdxjson.Read(bytes.NewReader(write("application/spdx+json")))
			Expect(err).NotTo(HaveOccurred())
			for _, p := range document.Packages {
				for _, ref := range p.PackageExternalReferences {
					if ref.RefType == "cpe23Type" && matches(ref.Locator) {
						found = append(found, p.PackageName)
					}
				}
			}
			var syft struct {
				Artifacts []struct {
					Name string
					CPEs []struct{ CPE string }
				}
			}
			Expect(json.Unmarshal(write("application/vnd.syft+json"), &syft)).To(Succeed())
			for _, a := range syft.Artifacts {
				for _, c := range a.CPEs {
					if matches(c.CPE) {
						found = append(found, a.Name)
					}
				}
			}
			return found
		}
		// As texts, 3.0.14 and 3.0.10 come before 3.0.7.
		for version, affected := range map[string]bool{
			"3.0.0": true, "3.0.6": true, "3.0.7": false, "3.0.10": false, "3.0.14": false, "3.1.0": false, "1.1.1": false,
		} {
			path := storepath.Path(strings.Replace(openssl.String(), "3.0.6", version, 1))
			bill, err = billOf(&closure.Graph{
				Roots: []storepath.Path{path}, Nodes: map[storepath.Path]*closure.Node{path: {Path: path}},
			}, options)
			Expect(err).NotTo(HaveOccurred())
			if affected {
				Expect(find()).To(Equal([]string{"openssl", "openssl", "openssl"}), advisory.ID+" "+version)
			} else {
				Expect(find()).To(BeEmpty(), advisory.ID+" "+version)
			}
		}
	})
}

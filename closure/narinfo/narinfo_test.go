package narinfo_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestNarinfo(t *testing.T) {
	suite := spec.New("narinfo", spec.Report(report.Terminal{}))
	suite("NarInfo", testNarInfo)
	suite("Parse", testParse)
	suite("Keys", testKeys)
	suite("VerifyCA", testVerifyCA)
	suite("ContentCheck", testContentCheck)
	suite.Run(t)
}

// names are a table's, in one order: spec runs a suite's function anew for each of its specs.
func names[V any](table map[string]V) []string { return slices.Sorted(maps.Keys(table)) }

// published are the narinfos of cache.nixos.org in testdata/narinfos, by file name. Some were altered by the test suites
// that they come from.
func published(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/narinfos/*.narinfo")
	if err != nil || len(files) == 0 {
		t.Fatalf("reading testdata: %d files, %v", len(files), err)
	}
	texts := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(text)
	}
	return texts
}

// netTools is a real narinfo of cache.nixos.org, signed by its key. The second signature is somebody else's.
const netTools = `StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
URL: nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz
Compression: xz
FileHash: sha256:1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d
FileSize: 114980
NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
NarSize: 464152
References: 7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27
Deriver: 10dx1q4ivjb115y3h90mipaaz533nr0d-net-tools-1.60_p20170221182432.drv
Sig: cache.nixos.org-1:sn5s/RrqEI+YG6/PjwdbPjcAC7rcta7sJU4mFOawGvJBLsWkyLtBrT2EuFt/LJjWkTZ+ZWOI9NTtjo/woMdvAg==
Sig: hydra.other.net-1:JXQ3Z/PXf0EZSFkFioa4FbyYpbbTbHlFBtZf4VqU0tuMTWzhMD7p9Q7acJjLn3jofOtilAAwRILKIfVuyrbjAA==
`

// hello is another, of a path that refers to itself, with the NarHash in hexadecimal.
const hello = `StorePath: /nix/store/xcp9cav49dmsjbwdjlmkjxj10gkpx553-hello-2.10
URL: nar/0nqgf15qfiacfxrgm2wkw0gwwncjqqzzalj8rs14w9srkydkjsk9.nar.xz
Compression: xz
FileHash: sha256:0nqgf15qfiacfxrgm2wkw0gwwncjqqzzalj8rs14w9srkydkjsk9
FileSize: 41104
NarHash: sha256:91e129ac1959d062ad093d2b1f8b65afae0f712056fe3eac78ec530ff6a1bb9a
NarSize: 206104
References: 563528481rvhc5kxwipjmg6rqrl95mdx-glibc-2.33-56 xcp9cav49dmsjbwdjlmkjxj10gkpx553-hello-2.10
Deriver: vvb4wxmnjixmrkhmj2xb75z62hrr41i7-hello-2.10.drv
Sig: cache.nixos.org-1:lo9EfNIL4eGRuNh7DTbAAffWPpI2SlYC/8uP7JnhgmfRIUNGhSbFe8qEaKN0mFS02TuhPpXFPNtRkFcCp0hGAQ==
`

const nixosKey = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="

func parse(text string) *narinfo.NarInfo {
	info, err := narinfo.Parse(strings.NewReader(text), storepath.Dir)
	ExpectWithOffset(1, err).NotTo(HaveOccurred())
	return info
}

// without drops the lines of a field.
func without(text, field string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, field+":") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// with puts another value into a field.
func with(text, field, value string) string {
	return without(text, field) + field + ": " + value + "\n"
}

func testNarInfo(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("is written as a cache serves it", func() {
		Expect(parse(netTools).String()).To(Equal(netTools))
	})

	it("leaves out what is not known, but not the references", func() {
		info := parse(netTools)
		info.FileHash, info.FileSize, info.Deriver, info.Sigs = storepath.Hash{}, 0, "", nil
		info.References, info.Compression = nil, ""
		Expect(info.String()).To(Equal(`StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432
URL: nar/1094wph9z4nwlgvsd53abfz8i117ykiv5dwnq9nnhz846s7xqd7d.nar.xz
Compression: bzip2
NarHash: sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6
NarSize: 464152
References: 
`))
	})

	it("has the fingerprint that Nix signs", func() {
		Expect(parse(netTools).Fingerprint()).To(Equal(
			"1;/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432;" +
				"sha256:0lxjvvpr59c2mdram7ympy5ay741f180kv3349hvfc3f8nrmbqf6;464152;" +
				"/nix/store/7gx4kiv5m0i7d7qkixq2cwzbr10lvxwc-glibc-2.27"))
		Expect(parse(hello).Fingerprint()).To(Equal(
			"1;/nix/store/xcp9cav49dmsjbwdjlmkjxj10gkpx553-hello-2.10;" +
				"sha256:16mvl7v0ylzcg2n3xzjn41qhzbmgcn5iyarx16nn5l2r36n2kqci;206104;" +
				"/nix/store/563528481rvhc5kxwipjmg6rqrl95mdx-glibc-2.33-56," +
				"/nix/store/xcp9cav49dmsjbwdjlmkjxj10gkpx553-hello-2.10"))
		alone := parse(netTools)
		alone.References = nil
		Expect(alone.Fingerprint()).To(HaveSuffix(";464152;"))
	})
}

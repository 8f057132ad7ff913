package nixinstall_test

import (
	"os"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

func TestFormats(t *testing.T) {
	suite := spec.New("formats", spec.Report(report.Terminal{}))
	suite("Drv", testDrv)
	suite("GitIdentity", testGitIdentity)
	suite("Impurities", testImpurities)
	suite("Registrations", testRegistrations)
	suite.Run(t)
}

const (
	hashA = "/nix/store/m2wvjw2h7w6631q8zbim1cw3y5a52g8p-a"
	hashB = "/nix/store/52pqh1qsvqvhn629j4rqgi8jlp36n8k3-b"
)

func testDrv(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	const good = `Derive([("dev","` + hashA + `","",""),("out","` + hashB + `","r:sha256","00")],` +
		`[("` + hashA + `.drv",["out","dev"])],["` + hashB + `"],"x86_64-linux","/bin/sh",["-c","a \"b\" \\ \n\t\r"],` +
		`[("PATH","` + "ü\x01" + `"),("a","")])`

	it("reads and writes what Nix writes, byte for byte", func() {
		d, err := nixinstall.ParseDrv([]byte(good))
		Expect(err).NotTo(HaveOccurred())
		Expect(d.Args).To(Equal([]string{"-c", "a \"b\" \\ \n\t\r"}))
		Expect(d.Outputs["out"]).To(Equal(nixinstall.DrvOutput{Path: hashB, HashAlgo: "r:sha256", Hash: "00"}))
		Expect(d.InputDrvs[hashA+".drv"]).To(Equal([]string{"out", "dev"}))
		Expect(d.String()).To(Equal(good))
	})

	it("refuses what Nix would not write, and says where", func() {
		for _, change := range [][2]string{
			{"Derive(", "derive("}, {"])", "]) "}, {`("a","")`, `("A","")`}, {`("a","")`, `("PATH","")`},
			{`["` + hashB + `"]`, `["/etc/passwd"]`}, {hashA + `.drv",`, `",`}, {`"/bin/sh",`, `"/bin/sh"`},
			{`"x86_64-linux"`, `"x86_64-linux`},
		} {
			bad := strings.Replace(good, change[0], change[1], 1)
			Expect(bad).NotTo(Equal(good))
			_, err := nixinstall.ParseDrv([]byte(bad))
			Expect(err).To(MatchError(ContainSubstring("parsing derivation: at byte ")), bad)
		}
		for i := range len(good) {
			_, err := nixinstall.ParseDrv([]byte(good[:i]))
			Expect(err).To(HaveOccurred(), good[:i])
		}
	})
}

func testRegistrations(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	const hexHash = "1f7f928c3635203de2e2f74b916a59e7c7aa4bd46cc975048891bd37e9ae6bb2"
	good := strings.Join([]string{hashA, hexHash, "123", hashB + ".drv", "2", hashA, hashB, ""}, "\n")

	it("reads what nix-store --dump-db writes, and the form of a release's .reginfo", func() {
		regs, err := nixinstall.ParseRegistrations(strings.NewReader(good))
		Expect(err).NotTo(HaveOccurred())
		Expect(regs).To(HaveLen(1))
		Expect(regs[0].References).To(HaveLen(2))
		want := regs[0].NarHash
		for _, form := range []string{want.String(), strings.TrimPrefix(want.String(), "sha256:"), "sha256:" + hexHash} {
			regs, err := nixinstall.ParseRegistrations(strings.NewReader(
				strings.Join([]string{hashA, form, "123", "", "0"}, "\n")))
			Expect(err).NotTo(HaveOccurred())
			Expect(regs[0].NarHash).To(Equal(want))
		}
	})

	it("refuses what is cut off, repeated or no registration, and says in which line", func() {
		for _, bad := range []string{
			good + good, strings.Replace(good, "123", "-1", 1), strings.Replace(good, "\n2\n", "\n3\n", 1),
			strings.Replace(good, "\n2\n", "\n99999999999\n", 1), strings.Replace(good, hexHash, "md5:00", 1),
			strings.Replace(good, hashB+"\n", "/etc/passwd\n", 1), "../../x\n", strings.Repeat("x", 1<<16),
		} {
			_, err := nixinstall.ParseRegistrations(strings.NewReader(bad))
			Expect(err).To(MatchError(MatchRegexp("parsing path registrations: line [0-9]+: ")))
		}
		regs, err := nixinstall.ParseRegistrations(strings.NewReader(""))
		Expect(err).NotTo(HaveOccurred())
		Expect(regs).To(BeEmpty())
	})
}

func FuzzParseDrv(f *testing.F) {
	f.Add([]byte(`Derive([("out","` + hashA + `","","")],[],[],"x","y",[],[("a","b")])`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := nixinstall.ParseDrv(data)
		if err != nil {
			return
		}
		again, err := nixinstall.ParseDrv([]byte(d.String()))
		if err != nil {
			t.Fatalf("what was written does not parse: %v", err)
		}
		if again.String() != d.String() {
			t.Fatal("written twice, it differs")
		}
	})
}

func FuzzParseRegistrations(f *testing.F) {
	f.Add(hashA + "\n1f7f928c3635203de2e2f74b916a59e7c7aa4bd46cc975048891bd37e9ae6bb2\n1\n\n0\n")
	f.Fuzz(func(t *testing.T, text string) {
		regs, err := nixinstall.ParseRegistrations(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, r := range regs {
			if r.Path == "" || r.NarSize <= 0 {
				t.Fatalf("accepted %+v", r)
			}
		}
	})
}

func FuzzGitIdentity(f *testing.F) {
	f.Add("ref: refs/heads/main\n", "0123456789012345678901234567890123456789 refs/heads/main\n",
		"[remote \"origin\"]\n\turl = https://a:b@example.org/x\n")
	f.Fuzz(func(t *testing.T, head, packed, config string) {
		dir := t.TempDir()
		if err := os.Mkdir(dir+"/.git", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"HEAD": head, "packed-refs": packed, "config": config} {
			if err := os.WriteFile(dir+"/.git/"+name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		id, ok, err := nixinstall.GitIdentity(t.Context(), dir)
		if err == nil && ok && len(id.Rev) != 40 && len(id.Rev) != 64 {
			t.Fatalf("accepted %+v", id)
		}
	})
}

func TestADerivationIsAFixedOutputOneWhereItHasOneOutputOfKnownHash(t *testing.T) {
	g := NewWithT(t)
	known := nixinstall.DrvOutput{Hash: "aa"}
	fixed := func(outputs map[string]nixinstall.DrvOutput) bool {
		return (&nixinstall.Drv{Outputs: outputs}).IsFixedOutput()
	}
	g.Expect(fixed(map[string]nixinstall.DrvOutput{"out": known})).To(BeTrue())
	g.Expect(fixed(map[string]nixinstall.DrvOutput{"out": {}})).To(BeFalse())
	g.Expect(fixed(map[string]nixinstall.DrvOutput{"out": known, "doc": known})).To(BeFalse())
}

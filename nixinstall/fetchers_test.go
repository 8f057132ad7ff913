package nixinstall_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
)

// ordinaryDrvs are the derivations that an ordinary Nix 2.34.8, with /nix/store in its place, gave for
// testdata/fetchers/all.nix in a source called git-export, and those that differ in one called source.
var ordinaryDrvs = map[string]map[string]string{
	"git-export": {
		"copied":           "/nix/store/y2lvr2pqlcaxrz6p8gl3hvrj7q66dzz6-c.drv",
		"fetchTarball":     "/nix/store/40ibl3jki158m2vq2p7v1954skgmhc72-ft.drv",
		"fetchTree":        "/nix/store/jqrlb4bn02kma2nfg28yn28x54za9bh2-t.drv",
		"fetchTreeRoot":    "/nix/store/jd3vavngwwsabd6n1hylxl2h2isjss30-t.drv",
		"fetchTreeTarball": "/nix/store/40ibl3jki158m2vq2p7v1954skgmhc72-ft.drv",
		"fetchTreeURL":     "/nix/store/8sf0q0gyy17n5za3s6236zsp054276xp-t1.drv",
		"fetchurl":         "/nix/store/kpg5y316w81sk2yib4zz9d2mw05bh60b-u.drv",
		"filterSource":     "/nix/store/miaix25lwpb1nhc50ny082b4056la3lw-f.drv",
		"getFlake":         "/nix/store/9nzfpzxkby6vy77q429p1k7bbblrdam7-a.drv",
		"getFlakeDir":      "/nix/store/p2kfw3b90wjvrmh48r4yam8d4a9ra98w-a.drv",
		"getFlakeImported": "/nix/store/9nzfpzxkby6vy77q429p1k7bbblrdam7-a.drv",
		"getFlakePath":     "/nix/store/9nzfpzxkby6vy77q429p1k7bbblrdam7-a.drv",
		"getFlakeSub":      "/nix/store/76cswsa1m80xm8nxg8rzibjvhm1n5x2s-a.drv",
		"path":             "/nix/store/v6ikn5fvmdkg32v57qnrfmvd3mpkmmr4-p.drv",
		"text":             "/nix/store/v0iv867cv375diq9dscpknccpjakkbyw-s.drv",
	},
	"source": {
		"filterSource":     "/nix/store/0ayyg6znjwb0jkaqq1gk8ja48nclvr7n-f.drv",
		"getFlake":         "/nix/store/kmvhz2vksbrphn6wbda1ah1afcvyr703-a.drv",
		"getFlakeDir":      "/nix/store/svh74fckpavfcpgkjm2zq7aigl0krvb6-a.drv",
		"getFlakeImported": "/nix/store/kmvhz2vksbrphn6wbda1ah1afcvyr703-a.drv",
		"getFlakePath":     "/nix/store/kmvhz2vksbrphn6wbda1ah1afcvyr703-a.drv",
		"text":             "/nix/store/h6lzrvqykhh4ihg7y8y34ah3cpk26r8l-s.drv",
	},
}

// flakeDrvs are what it gave for the packages of testdata/fetching-flake.
var flakeDrvs = map[string]string{
	"flake":       "ki63apfl31hj4wxbxq07qj2rcq57868x-sub.drv",
	"flakeRef":    "ki63apfl31hj4wxbxq07qj2rcq57868x-sub.drv",
	"imported":    "33lwpa5gh23dff7g4hws1lsshh442w5h-i.drv",
	"input":       "7wc5bxi8s38dly4f89axp819j98dqdwb-inner.drv",
	"selfAgain":   "rslf077b9ai15vx2in6ljkn5fgsdyrda-t.drv",
	"tarball":     "q1srahfrh8p5jls67nq3hgvg0a5vn21f-a.drv",
	"tree":        "rslf077b9ai15vx2in6ljkn5fgsdyrda-t.drv",
	"treeCopied":  "rslf077b9ai15vx2in6ljkn5fgsdyrda-t.drv",
	"treeFile":    "jaychzd68f4b8fvhvglwwpl32arsx73w-f.drv",
	"treeOfSelf":  "rslf077b9ai15vx2in6ljkn5fgsdyrda-t.drv",
	"treeTarball": "q1srahfrh8p5jls67nq3hgvg0a5vn21f-a.drv",
	"treeURL":     "rslf077b9ai15vx2in6ljkn5fgsdyrda-t.drv",
	"url":         "h869vp3y9nrn82n59xb506f4zb5mfr0s-u.drv",
}

// singleDrvs are what it gave for what testdata/fetchers has, each fetched by itself.
var singleDrvs = map[string]string{
	"tarball": "jqrlb4bn02kma2nfg28yn28x54za9bh2-t.drv",
	"tree":    "jqrlb4bn02kma2nfg28yn28x54za9bh2-t.drv",
	"file":    "fw5248yvfy88262r0s16rg3x9ajf6ap5-t.drv",
}

func testFetchers(t *testing.T, _ spec.G, it spec.S) {
	ctx := context.Background()
	it.Before(func() { RegisterTestingT(t) })

	evaluateIn := func(name, dir string, r nixinstall.Request) (nixinstall.Result, error) {
		t.Helper()
		toolchain := nix(t)
		var err error
		r.Source, err = toolchain.AddSource(ctx, dir, nixinstall.SourceOptions{Name: name})
		Expect(err).NotTo(HaveOccurred())
		return toolchain.Evaluate(ctx, r)
	}

	for _, name := range []string{"git-export", "source"} {
		it("finds what fetchers read of a source named "+name+", as an ordinary Nix", func() {
			r, err := evaluateIn(name, testdata(t, "fetchers"), nixinstall.Request{File: "all.nix"})
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Derivations).To(HaveLen(len(ordinaryDrvs["git-export"])))
			for _, d := range r.Derivations {
				want := ordinaryDrvs[name][d.Attr]
				if want == "" {
					want = ordinaryDrvs["git-export"][d.Attr]
				}
				Expect(d.Drv.String()).To(Equal(want), d.Attr)
			}
			r, err = evaluateIn(name, testdata(t, "fetchers"), nixinstall.Request{})
			Expect(err).NotTo(HaveOccurred())
			Expect(r.Derivations[0].Drv.String()).To(Equal(ordinaryDrvs[name]["getFlake"]))
		})
	}

	it("says as Nix does what is not there, by its place in the source", func() {
		for text, says := range map[string]string{
			"builtins.getFlake (toString ./missing)":                        "missing' does not exist",
			`fetchTree { type = "path"; path = ./missing; }`:                "missing' does not exist",
			`builtins.fetchTarball "file://${toString ./missing.tar.gz}"`:   "missing.tar.gz",
			"builtins.fetchGit ./.":                                         "Failed to fetch git repository",
			`builtins.getFlake "${./.}"`:                                    "not allowed to refer to a store path",
			"(import ./other.nix) + builtins.getFlake (toString ./missing)": "other.nix",
		} {
			dir := t.TempDir()
			Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(text), 0o644)).To(Succeed())
			_, err := evaluateIn("git-export", dir, nixinstall.Request{})
			var failed *nixinstall.EvalError
			Expect(errors.As(err, &failed)).To(BeTrue(), "%v", err)
			Expect(failed.Summary).To(ContainSubstring(says), text)
			Expect(err.Error()).NotTo(ContainSubstring("/root/nix/store"), text)
		}
	})

	it("finds what a flake's own code fetches of its source with a hash, as an ordinary Nix", func() {
		for attr, drv := range flakeDrvs {
			r, err := evaluateIn("source", testdata(t, "fetching-flake"), nixinstall.Request{Flake: ".#" + attr})
			Expect(err).NotTo(HaveOccurred(), attr)
			Expect(r.Derivations[0].Drv.String()).To(Equal("/nix/store/"+drv), attr)
		}
	})

	it("refuses what an ordinary Nix refuses there, in its words", func() {
		for attr, says := range map[string]string{
			"unlocked":      "in pure evaluation mode, 'fetchTree' doesn't fetch unlocked input 'path:sub'",
			"unlockedFlake": "cannot call 'getFlake' on unlocked flake reference",
			"context":       "is not allowed to refer to a store path",
			"urlContext":    "is not allowed to refer to a store path",
			"otherHash":     "NAR hash mismatch in input",
			"missing":       "missing' does not exist",
		} {
			_, err := evaluateIn("source", testdata(t, "fetching-flake"), nixinstall.Request{Flake: ".#refused." + attr})
			var failed *nixinstall.EvalError
			Expect(errors.As(err, &failed)).To(BeTrue(), "%s: %v", attr, err)
			Expect(failed.Summary).To(ContainSubstring(says), attr)
			Expect(err.Error()).NotTo(ContainSubstring("/root/nix/store"), attr)
		}
	})

	it("names what a flake fetches before it has any outputs", func() {
		dir := t.TempDir()
		Expect(os.Mkdir(filepath.Join(dir, "sub"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(`{ outputs = { self }: import "${builtins.fetchTree {
			type = "path"; path = ./sub; narHash = "sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo="; }}/x.nix"; }`),
			0o644)).To(Succeed())
		_, err := evaluateIn("source", dir, nixinstall.Request{Flake: "."})
		var failed *nixinstall.EvalError
		Expect(errors.As(err, &failed)).To(BeTrue(), "%v", err)
		Expect(failed.Unfetched).To(HaveSuffix("-source/sub"))
	})

	it("finds each of them by itself", func() {
		for text, name := range map[string]string{
			`builtins.fetchTarball "file://${toString ./data/t.tgz}"`:                              "tarball",
			`(builtins.fetchTree { type = "tarball"; url = "file://${./data/t.tgz}"; }).outPath`:   "tarball",
			`(builtins.fetchTree "path:${./sub}").outPath`:                                         "tree",
			`(builtins.fetchTree { type = "path"; path = ./sub; }).outPath`:                        "tree",
			`(builtins.fetchTree { type = "file"; url = "file://${./data/f}"; }).outPath`:          "file",
			`(builtins.fetchTree { type = "file"; url = "file://${toString ./data/f}"; }).outPath`: "file",
		} {
			dir := t.TempDir()
			Expect(os.CopyFS(dir, os.DirFS(testdata(t, "fetchers")))).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, "default.nix"), []byte(
				`derivation { name = "t"; system = "x86_64-linux"; builder = "/bin/sh"; src = `+text+`; }`), 0o644)).To(Succeed())
			r, err := evaluateIn("source", dir, nixinstall.Request{})
			Expect(err).NotTo(HaveOccurred(), text)
			Expect(r.Derivations[0].Drv.String()).To(Equal("/nix/store/"+singleDrvs[name]), text)
		}
	})
}

package relocate_test

import (
	stdcontext "context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// Where the layers of self and dep are in the image, and what wrappers name there.
const (
	selfLayer = "/layers/nixproot_nix-hydra/closure-1-self"
	depLayer  = "/layers/nixproot_nix-hydra/closure-1-dep"
	selfLies  = selfLayer + "/00bgd045z0-app-1.0"
	depLies   = depLayer + "/1b9p07z77p-glibc-2.40"
)

// withWrappers is fixedTree with wrappers that name programs of the paths in dirs by where they lie.
func withWrappers(t testing.TB, dirs map[storepath.Path]string, files ...file) (dir string, report relocate.Report) {
	t.Helper()
	g, ctx, l := NewWithT(t), stdcontext.Background(), view(t)
	dir, report = fixedTree(t, files...)
	o := relocate.Original{Path: self, References: []storepath.Path{dep}}
	report, err := l.FixWrappers(ctx, dir, o, report, dirs)
	g.Expect(err).NotTo(HaveOccurred())
	was := sha256.New()
	g.Expect(nar.DumpTo(ctx, l.Undo([]storepath.Path{self, dep}, report.Fixups, nar.NewWriter(was)), dir)).To(Succeed())
	g.Expect([32]byte(was.Sum(nil))).To(Equal(sha256.Sum256(archived(t, archive(files...)))), "it comes back byte for byte")
	return dir, report
}

func testWrappers(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })
	shell := "#! " + dep.String() + "/bin/bash -e\n"
	both := map[storepath.Path]string{self: selfLayer, dep: depLayer}
	script := func(text string) file { return regular("bin/app", text) }

	it("names programs of Node.js and PHP by where they lie, and nothing else", func() {
		for text, want := range map[string]string{
			// as makeWrapper writes it
			"exec \"" + dep.String() + "/bin/node\"  " + self.String() + "/lib/node_modules/@x/app/cli.mjs \"$@\"": "exec \"" + depNow +
				"/bin/node\"  " + selfLies + "/lib/node_modules/@x/app/cli.mjs \"$@\"",
			"php '" + self.String() + "/share/php/app/bin/console'":                                                                    "php '" + selfLies + "/share/php/app/bin/console'",
			"node " + dep.String() + "/a.js; node " + self.String() + "/b.cjs":                                                         "node " + depLies + "/a.js; node " + selfLies + "/b.cjs",
			"exec -a \"$0\" \"" + dep.String() + "/bin/node\" --x=y " + self.String() + "/libexec/run $@; cat " + self.String() + "/a": "exec -a \"$0\" \"" + depNow + "/bin/node\" --x=y " + selfLies + "/libexec/run $@; cat " + selfLies + "/a",
			dep.String() + "/bin/php" + "\n" + self.String() + "/bin/a " + dep.String() + "/bin/php-config " + self.String() + "/b":    depNow + "/bin/php" + "\n" + selfNow + "/bin/a " + depNow + "/bin/php-config " + selfNow + "/b",
			"node " + self.String() + ".ts":                                 "node " + selfLies + ".ts", // a path that is one file
			"export A=" + self.String() + "/share:" + dep.String() + "/lib": "export A=" + selfNow + "/share:" + depNow + "/lib",
			"cd " + self.String() + "/x; cat a.js":                          "cd " + selfNow + "/x; cat a.js",
			// a variable that is given to the interpreter
			"A=" + self.String() + "/lib B='" + dep.String() + "'\nexec node \\\n\"${A}/cli\" $B": "A=" + selfLies + "/lib B='" + depNow + "'\nexec node \\\n\"${A}/cli\" $B",
			"export A=\"" + self.String() + "\"; \"" + dep.String() + "/bin/php\" $A/cli":         "export A=\"" + selfLies + "\"; \"" + depNow + "/bin/php\" $A/cli",
			"A=" + self.String() + "\nsh $A/node x":                                               "A=" + selfNow + "\nsh $A/node x",
			// a line that goes on in the next
			dep.String() + "/bin/node \\\n  --x \\\n\t" + self.String() + "/libexec/run": depNow + "/bin/node \\\n  --x \\\n\t" + selfLies + "/libexec/run",
			dep.String() + "/bin/node\t" + self.String() + "/libexec/run":                depNow + "/bin/node\t" + selfLies + "/libexec/run",
			self.String() + "/a.json " + self.String() + "/a.js.map":                     selfNow + "/a.json " + selfNow + "/a.js.map",
			// what the program may compare with its own name
			"A=" + self.String() + " B=" + dep.String() + "/lib node --allow-fs-read=" + self.String() + "/lib/* " + self.String() +
				"/lib/app.mjs": "A=" + selfLies + " B=" + depNow + "/lib node --allow-fs-read=" + selfLies + "/lib/* " + selfLies + "/lib/app.mjs",
		} {
			dir, _ := withWrappers(t, both, script(shell+text+"\n"))
			Expect(readBack(t, dir, "bin/app")).To(Equal("#! "+depNow+"/bin/bash -e\n"+want+"\n"), text)
		}
	})

	it("names a store path that is given to what takes a link for a link by where it lies, unless more of a path is behind it", func() {
		for text, want := range map[string]string{
			"cp -r " + dep.String() + " x; chmod -R u+w x":                           "cp -r " + depLies + " x; chmod -R u+w x",
			"\"" + dep.String() + "/bin/find\" \\\n '" + self.String() + "' -name x": "\"" + depNow + "/bin/find\" \\\n '" + selfLies + "' -name x",
			"A=\"" + dep.String() + "\"\nfor f in $(find $A -type f)":                "A=\"" + depLies + "\"\nfor f in $(find $A -type f)",
			"A=" + dep.String() + "\ncp -r \"${A}\" x":                               "A=" + depLies + "\ncp -r \"${A}\" x",
			"cp -r " + dep.String() + "/. x; find " + self.String() + "/ -name x":    "cp -r " + depNow + "/. x; find " + selfNow + "/ -name x",
			"A=" + dep.String() + "\ncp -r $A/x y; du $B\nscp $A":                    "A=" + depNow + "\ncp -r $A/x y; du $B\nscp $A",
		} {
			dir, _ := withWrappers(t, both, script(shell+text+"\n"))
			Expect(readBack(t, dir, "bin/app")).To(Equal("#! "+depNow+"/bin/bash -e\n"+want+"\n"), text)
		}
	})

	it("takes for a wrapper what any shell runs", func() {
		for _, line := range []string{
			"#!/bin/sh", "#! " + dep.String() + "/bin/busybox sh", "#!/usr/bin/env bash", "#!/usr/bin/env -S bash -e",
			"#!" + dep.String() + "/bin/env -S A=1 " + dep.String() + "/bin/bash -e", "#!/usr/bin/env " + dep.String() + "/bin/zsh",
			"#!" + dep.String() + "/bin/fish",
		} {
			dir, _ := withWrappers(t, both, script(line+"\nnode "+self.String()+"/a.js"))
			Expect(readBack(t, dir, "bin/app")).To(HaveSuffix("\nnode "+selfLies+"/a.js"), line)
		}
	})

	it("names those of other paths by the view where their place is not given", func() {
		dir, _ := withWrappers(t, map[storepath.Path]string{self: selfLayer},
			script(shell+"node "+dep.String()+"/a.js "+self.String()+"/a.js"))
		Expect(readBack(t, dir, "bin/app")).To(HaveSuffix("node " + depNow + "/a.js " + selfLies + "/a.js"))
		dir, report := withWrappers(t, nil, script(shell+"node "+self.String()+"/a.js"))
		Expect(readBack(t, dir, "bin/app")).To(HaveSuffix("node " + selfNow + "/a.js"))
		Expect(report.Fixups).To(BeEmpty())
	})

	it("leaves what no shell runs, is no text, is too large or is recorded otherwise", func() {
		line := "node " + self.String() + "/a.js\n"
		now := "node " + selfNow + "/a.js\n"
		wide := strings.Join(strings.Split("a\n"+self.String()+"/", ""), "\x00") + "\x00"
		for _, files := range [][]file{
			{script("#!" + dep.String() + "/bin/node\n" + line)},
			{script(line)},
			{script(shell + line + "\x00")},
			{script(shell + line + strings.Repeat("#\n", 1<<15))},
			{script(shell + line + wide)},
		} {
			dir, _ := withWrappers(t, both, files...)
			Expect(readBack(t, dir, "bin/app")).To(ContainSubstring(now))
		}
	})

	it("finds them however the archive comes", func() {
		random := rand.New(rand.NewPCG(1, 1))
		rewriter := view(t).Rewrite(self, []storepath.Path{dep}, &events{})
		send(t, rewriter, archive(script(shell+"node "+self.String()+"/a.js"), regular("bin/b", "#!/bin/sh\nphp "+dep.String()+"/b.php")),
			pieces(random))
		Expect(rewriter.Report().Wrappers).To(Equal([]string{"bin/app", "bin/b"}))
		Expect(rewriter.Report().Complete()).To(BeFalse())
	})

	it("keeps to a bound of what is recorded", func() {
		var files []file
		line := strings.Repeat("node "+self.String()+"/a.js;"+strings.Repeat(" ", 40), 500)
		for i := range 20 {
			files = append(files, regular(fmt.Sprintf("bin/%02d", i), shell+line))
		}
		_, report := withWrappers(t, both, files...)
		recorded := map[string]int{}
		for _, f := range report.Fixups {
			recorded[f.File]++
		}
		Expect(recorded).To(Equal(map[string]int{"bin/00": 500, "bin/01": 500}), "and no file in part")
	})

	it("refuses a tree that is not what the report is of", func() {
		dir, report := fixedTree(t, regular("a", "text"))
		for _, name := range []string{"a/b", "gone"} {
			report.Wrappers = []string{name}
			_, err := view(t).FixWrappers(stdcontext.Background(), dir, relocate.Original{Path: self}, report, both)
			Expect(err).To(MatchError(ContainSubstring("fixing " + self.String() + ": " + name)))
		}
		report.Wrappers = []string{"."}
		_, err := view(t).FixWrappers(stdcontext.Background(), filepath.Dir(dir), relocate.Original{Path: self}, report, both)
		Expect(err).To(MatchError(ContainSubstring("it is no wrapper any more")))
	})
}

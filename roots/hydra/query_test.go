package hydra_test

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/roots/hydra"
)

func TestQuery(t *testing.T) {
	spec.Run(t, "hydra.Query", testQuery, spec.Report(report.Terminal{}))
}

func testQuery(t *testing.T, when spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	for given, want := range sorted(map[string]hydra.Target{
		"shop/main/app":              {Project: "shop", Jobset: "main", Jobs: []string{"app"}},
		"shop/main/app.x86_64-linux": {Project: "shop", Jobset: "main", Jobs: []string{"app.x86_64-linux"}},
		"shop:main:app":              {Project: "shop", Jobset: "main", Jobs: []string{"app"}},
		" shop/main ":                {Project: "shop", Jobset: "main"},
		"shop/main/":                 {Project: "shop", Jobset: "main"},
		"shop/.hidden/a":             {Project: "shop", Jobset: ".hidden", Jobs: []string{"a"}},
		"shop/v1.2/web, worker":      {Project: "shop", Jobset: "v1.2", Jobs: []string{"web", "worker"}},
		"shop/m/a\nshop/m/b c":       {Project: "shop", Jobset: "m", Jobs: []string{"a", "b", "c"}},
		`shop/m/"python3.11".foo`:    {Project: "shop", Jobset: "m", Jobs: []string{`"python3.11".foo`}},
		`shop/m/"my app" 'the other',größe`: {Project: "shop", Jobset: "m",
			Jobs: []string{"my app", "the other", "größe"}},
		`shop/m/packages."my app-1.2"`: {Project: "shop", Jobset: "m", Jobs: []string{`packages."my app-1.2"`}},
		"shop/m/my%20app 50% don't":    {Project: "shop", Jobset: "m", Jobs: []string{"my app", "50%", "don't"}},
		"shop/m/node.'@scope/cli' \"a/b\".c d%2Fe": {Project: "shop", Jobset: "m",
			Jobs: []string{"node.@scope/cli", "a/b.c", "d/e"}},
		"shop/m/a?b":                  {Project: "shop", Jobset: "m", Jobs: []string{"a?b"}},
		"shop/m/hydraJobs.app-1_0.b2": {Project: "shop", Jobset: "m", Jobs: []string{"hydraJobs.app-1_0.b2"}},
	}) {
		it("reads "+given, func() {
			got, err := hydra.ParseJob(given)
			Expect(err).NotTo(HaveOccurred())
			Expect(got).To(Equal(want))
		})
	}

	for given, want := range sorted(map[string]string{
		"":                           "it is empty, want project/jobset/job",
		" , ":                        "it is empty, want project/jobset/job",
		"app":                        "want project/jobset/job",
		"a/b/c/d":                    "it has 4 parts",
		"https://hydra/job/a/b/c":    "not a URL",
		"shop/main/app shop/dev/app": "all jobs must be of one jobset",
		"shop/main shop/main/app":    "names a whole jobset",
		"../main/app":                "cannot be the name of a Hydra project",
		"shop/ma%in/app":             "cannot be the name of a Hydra jobset",
		"shop/main/a\x01b":           "cannot be the name of a Hydra job",
		"shop/main/'a":               "a quote ' is not closed",
		"shop/main/..":               "cannot be the name of a Hydra job",
		"sho\x1bp/main/app":          "cannot be the name of a Hydra project",
	}) {
		it("refuses the job "+given, func() {
			_, err := hydra.ParseJob(given)
			Expect(err).To(MatchError(ContainSubstring(want)))
			Expect(err.Error()).NotTo(ContainSubstring("\x1b"))
		})
	}

	it("writes a job as it reads it", func() {
		for job, want := range map[string]string{"app": "app", "größe.x86_64-linux": "größe.x86_64-linux", "my app": "my%20app",
			"node.@scope/cli": "node.@scope%2Fcli", "50%": "50%25", `packages."app-1.2"`: "packages.%22app-1.2%22", "a,b": "a%2Cb"} {
			written := hydra.Build{Project: "shop", Jobset: "main", Job: job}.JobPath()
			Expect(written).To(Equal("shop/main/" + want))
			Expect(hydra.ParseJob(written)).To(Equal(hydra.Target{Project: "shop", Jobset: "main", Jobs: []string{job}}))
		}
	})

	it("takes a commit, whole or short, and the two words", func() {
		for _, good := range []string{"latest", "latest-finished", "0123abc", strings.Repeat("aB", 20),
			strings.Repeat("f", 64), "09afAF0"} {
			Expect(hydra.CheckRevision(good)).To(Succeed(), good)
		}
	})

	it("takes no other character for a hex digit", func() {
		for _, other := range []string{"/", ":", "@", "G", "`", "g"} {
			Expect(hydra.CheckRevision("0123abc"+other)).To(MatchError(ContainSubstring("branch or tag")), other)
		}
	})

	for given, want := range sorted(map[string]string{
		"main":                  `reading revision "main": it is the name of a branch or tag, not a commit`,
		"v1.0":                  "branch or tag",
		"refs/heads/abc":        "branch or tag",
		"newest":                `want a commit, 40 hex digits, or the word "latest" or "latest-finished"`,
		"abc123":                "too short, 7 digits are needed",
		"":                      "it is empty",
		strings.Repeat("a", 65): "longer than any commit",
	}) {
		it("says what is wrong with the revision "+given, func() {
			err := hydra.CheckRevision(given)
			var typed *hydra.RevisionError
			Expect(errors.As(err, &typed)).To(BeTrue())
			Expect(err).To(MatchError(ContainSubstring(want)))
		})
	}
}

func TestRepositories(t *testing.T) {
	spec.Run(t, "hydra.SameRepository", testRepositories, spec.Report(report.Terminal{}))
}

func testRepositories(t *testing.T, when spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("knows a repository by any of the ways that lead to it", func() {
		for _, way := range []string{
			"https://git.example.org/acme/shop.git", "https://git.example.org/acme/shop/", "git@git.example.org:acme/shop.git",
			"ssh://git@git.example.org:22/acme/shop", "git+ssh://git@git.example.org/acme/shop",
			"HTTPS://GIT.example.org/acme/shop",
			"https://user:secret@git.example.org/acme/shop", "git+https://git.example.org/acme/shop?ref=main&rev=abc",
			"https://git.example.org/acme/shop.git main", "git@git.example.org:/acme/shop", "hg+https://git.example.org/acme/shop", "git://git.example.org/acme//shop",
		} {
			Expect(hydra.SameRepository(way, "https://git.example.org/acme/shop")).To(BeTrue(), way)
		}
		Expect(hydra.SameRepository("github:Acme/Shop", "git@github.com:acme/shop.git")).To(BeTrue())
		Expect(hydra.SameRepository("file:///srv/shop.git", "/srv/shop")).To(BeTrue())
	})

	it("keeps different repositories apart", func() {
		for _, other := range []string{
			"", "https://git.example.org/acme/shop2", "https://git.example.com/acme/shop", "https://git.example.org/shop",
			"/acme/shop", "git.example.org", "https://git.example.org/Acme/shop", "::", "https://[",
		} {
			Expect(hydra.SameRepository(other, "https://git.example.org/acme/shop")).To(BeFalse(), other)
		}
		Expect(hydra.SameRepository("", "")).To(BeFalse())
	})

	it("takes whole commits for sources, and no numbers or times", func() {
		commit := strings.Repeat("ab", 20)
		e := hydra.Eval{Inputs: map[string]hydra.Input{
			"src": {URI: "https://git.example.org/acme/shop", Revision: commit}, "long": {URI: "https://x", Revision: strings.Repeat("0c", 32)},
			"prs":  {Revision: "20261128123456"}, // Plugin/GithubPulls.pm
			"path": {URI: "/srv/x", Revision: "20261128123456:" + strings.Repeat("0c", 32)}, "svn": {URI: "https://svn", Revision: "1234567"},
			"flag": {Value: "true"}, "short": {URI: "https://y", Revision: commit[:12]},
		}}
		Expect(e.Sources()).To(HaveExactElements(HaveField("Name", "long"), HaveField("Name", "src")))
	})

	rev := strings.Repeat("0123456789abcdef", 3)[:40]
	for ref, want := range sorted(map[string][2]string{
		"github:acme/shop/" + rev:                                   {"https://github.com/acme/shop", rev},
		"github:acme/shop/" + rev + "?narHash=sha256-x":             {"https://github.com/acme/shop", rev},
		"github:acme/shop/" + rev + "?host=git.acme.org":            {"https://git.acme.org/acme/shop", rev},
		"gitlab:group%2Fsub/shop/" + rev:                            {"https://gitlab.com/group/sub/shop", rev},
		"git+https://h.org/shop?ref=refs%2Fheads%2Fmain&rev=" + rev: {"https://h.org/shop", rev},
		"git+file:///srv/shop?rev=" + rev:                           {"file:///srv/shop", rev},
		"hg+https://h.org/shop?rev=" + rev:                          {"https://h.org/shop", rev},
		"github:acme/shop/main":                                     {"https://github.com/acme/shop", ""},
		"path:/srv/shop?narHash=sha256-x":                           {"path:///srv/shop", ""},
		"":                                                          {"", ""},
		"::::":                                                      {"", ""},
	}) {
		it("takes the flake reference "+ref+" apart", func() {
			uri, revision := hydra.SplitFlake(ref)
			Expect(revision).To(Equal(want[1]))
			if want[1] != "" {
				Expect(uri).To(Equal(want[0]))
			}
		})
	}
}

// sorted goes through a table in a fixed order: spec runs a suite's function once per spec and finds them by number.
func sorted[V any](table map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(table)) {
			if !yield(key, table[key]) {
				return
			}
		}
	}
}

func TestACommitIsAWholeHash(t *testing.T) {
	g := NewWithT(t)
	for text, want := range map[string]bool{
		strings.Repeat("a1", 20): true, strings.Repeat("a1", 32): true, strings.Repeat("A1", 20): true,
		strings.Repeat("a1", 19): false, strings.Repeat("a1", 24): false, strings.Repeat("z1", 20): false,
		strings.Repeat("0", 40): false, "20261128123456": false, "": false,
	} {
		g.Expect(hydra.IsCommit(text)).To(Equal(want), text)
	}
}

package relocate_test

import (
	"errors"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func testLayout(t *testing.T, context spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	it("renames at equal length", func() {
		l := view(t)
		Expect(l.Rename(self)).To(Equal(selfNow))
		Expect(l.Rename(self)).To(HaveLen(len(self)))
		Expect(l.Base(dep)).To(Equal("1b9p07z77p-glibc-2.40"))
		Expect(l.Dir()).To(Equal(viewDir))
	})

	it("is the store's own where it is zero", func() {
		var l relocate.View
		Expect(l.IsZero()).To(BeTrue())
		Expect(l.Rename(self)).To(Equal(string(self)))
		Expect(l.Collisions([]storepath.Path{self, dep})).To(BeEmpty())
	})

	it("refuses a directory that leaves no room for hashes, with the limit", func() {
		dir := strings.Repeat("/x", 18) + "yyy"
		_, err := relocate.NewView(dir)
		var tooLong *relocate.TooLongError
		Expect(errors.As(err, &tooLong)).To(BeTrue())
		Expect(*tooLong).To(Equal(relocate.TooLongError{Dir: dir, Max: 37}))
		Expect(err).To(MatchError(ContainSubstring("39 characters and may have 37")))
		_, err = relocate.NewView(dir[:37])
		Expect(err).NotTo(HaveOccurred())
	})

	it("refuses directories that could not stand in every place a store path stands in", func() {
		for dir, why := range map[string]string{
			"":                                  "absolute",
			"layers/store":                      "absolute",
			"/layers/../store/x":                "dotted",
			"/layers//store/x":                  "empty",
			"/layers/store/":                    "empty",
			"/":                                 "empty",
			"/layers/my store":                  `' '`,
			"/layers/a:b/store":                 `':'`,
			"/layers/$ORIGIN/store":             `'$'`,
			"/nix/store":                        "out of /nix/store",
			"/nix/store/x":                      "out of /nix/store",
			"/v":                                "has 2 characters and needs 10",
			"/00bgd045z0d4icpbc2yyz4gx48ak44la": "looks like a store path's hash",
		} {
			_, err := relocate.NewView(dir)
			Expect(err).To(MatchError(ContainSubstring(why)), dir)
		}
	})

	it("finds the paths that it cannot tell apart", func() {
		twin := storepath.Path("/nix/store/00bgd045z0xxxxxxxxxxxxxxxxxxxxxx-other")
		Expect(view(t).Collisions([]storepath.Path{dep, twin, self, self})).To(Equal([]relocate.Collision{
			{Short: "00bgd045z0", Paths: []storepath.Path{self, twin}},
		}))
		Expect(view(t).Collisions([]storepath.Path{dep, dep, other, self})).To(BeEmpty())
	})

	it("finds a path whose shortened hash could overlap the directory", func() {
		l, err := relocate.NewView("/layers/00bgd045z/1b9p07z77phvv")
		Expect(err).NotTo(HaveOccurred())
		Expect(l.Collisions([]storepath.Path{self, dep})).To(HaveLen(1))
		Expect(l.Collisions([]storepath.Path{self, dep})[0].String()).To(ContainSubstring("part of the view directory"))
	})
}

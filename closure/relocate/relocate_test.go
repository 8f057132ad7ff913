package relocate_test

import (
	"testing"

	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestRelocate(t *testing.T) {
	suite := spec.New("relocate", spec.Report(report.Terminal{}))
	suite("View", testLayout)
	suite("split references", testSplit)
	suite("compiled", testCompiled)
	suite("memory", testRoom)
	suite("Rewriter", testRewriter)
	suite("blockers", testBlockers)
	suite("formats", testFormats)
	suite("Undo", testUndo)
	suite("programs", testPrograms)
	suite("FixTree", testFixups)
	suite("families", testFamilies)
	suite("keys", testKeys)
	suite("integrity", testIntegrity)
	suite("lengths", testLengths)
	suite("sums", testSums)
	suite("a path that is a file", testSingle)
	suite("Java's run-time images", testRunTimeImages)
	suite("budget", testBudget)
	suite("overrules", testOverrule)
	suite("hostile files", testHostile)
	suite("copies", testCopies)
	suite("wrappers", testWrappers)
	suite("programs read what was relocated", testInstalled)
	suite.Run(t)
}

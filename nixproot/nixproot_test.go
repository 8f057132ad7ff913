package nixproot_test

import (
	"testing"

	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestNixproot(t *testing.T) {
	suite := spec.New("nixproot", spec.Report(report.Terminal{}))
	suite("Bindings", testBindings)
	suite("Config", testConfig)
	suite("Detect", testDetect)
	suite("Main", testMain)
	suite("SBOM", testSBOM)
	suite.Run(t)
}

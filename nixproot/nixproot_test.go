package nixproot_test

import (
	"testing"

	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
)

func TestNixproot(t *testing.T) {
	suite := spec.New("nixproot", spec.Report(report.Terminal{}))
	suite("Config", testConfig)
	suite("Main", testMain)
	suite.Run(t)
}

package kpack_test

import (
	"testing"

	. "github.com/onsi/gomega"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"sigs.k8s.io/yaml"

	"github.com/nixproot/nix-hydra-buildpack/integration/pages"
)

// TestTekton decodes the page's pipeline into Tekton's own type and has Tekton validate it.
func TestTekton(t *testing.T) {
	RegisterTestingT(t)
	all, err := pages.Read("../..")
	Expect(err).NotTo(HaveOccurred())
	found := 0
	for _, page := range all {
		for _, block := range page.Blocks {
			if page.Name != "docs/tekton.md" || block.Language != "yaml" {
				continue
			}
			found++
			var pipeline tekton.Pipeline
			Expect(yaml.UnmarshalStrict([]byte(block.Text), &pipeline)).To(Succeed())
			pipeline.SetDefaults(t.Context())
			Expect(pipeline.Validate(t.Context())).To(BeNil())
		}
	}
	Expect(found).To(Equal(1))
}

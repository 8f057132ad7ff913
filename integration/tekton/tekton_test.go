// Package tekton_test reads docs/tekton.md as Tekton does. It is a module of its own, as Tekton's types bring a cluster's
// libraries along, in other versions than kpack's.
package tekton_test

import (
	"os"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	pipelineapi "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"sigs.k8s.io/yaml"
)

// pipelineOf decodes a pipeline strictly: a field that Tekton does not know is an error.
func pipelineOf(text string) (*pipelineapi.Pipeline, error) {
	p := &pipelineapi.Pipeline{}
	return p, yaml.UnmarshalStrict([]byte(text), p)
}

// TestThePagesPipelineIsValid has Tekton's own code read what people copy, fill in defaults, and look for what refers to
// nothing.
func TestThePagesPipelineIsValid(t *testing.T) {
	RegisterTestingT(t)
	page, err := os.ReadFile("../../docs/tekton.md")
	Expect(err).NotTo(HaveOccurred())
	_, text, found := strings.Cut(string(page), "\n```yaml\n")
	Expect(found).To(BeTrue())
	text, _, _ = strings.Cut(text, "\n```\n")

	valid := func(text string) error {
		p, err := pipelineOf(text)
		if err != nil {
			return err
		}
		p.SetDefaults(t.Context())
		if err := p.Validate(t.Context()); err != nil {
			return err
		}
		return nil
	}
	Expect(valid(text)).To(Succeed())
	for right, wrong := range map[string]struct{ text, says string }{
		"runAfter: [fetch]":                {"runAfter: [nobody]", "nobody"},
		"workspace: cache}":                {"workspace: other}", "other"},
		"$(tasks.fetch.results.commit)":    {"$(tasks.other.results.commit)", "other"},
		"value: $(params.repository)}":     {"value: $(params.other)}", "other"},
		"taskRef: {name: buildpacks}":      {"taskReference: {name: buildpacks}", "taskReference"},
		"- name: ENV_VARS\n      value:\n": {"- name: ENV_VARS\n      values:\n", "values"},
	} {
		Expect(text).To(ContainSubstring(right))
		Expect(valid(strings.Replace(text, right, wrong.text, 1))).To(MatchError(ContainSubstring(wrong.says)), wrong.text)
	}

	p, err := pipelineOf(text)
	Expect(err).NotTo(HaveOccurred())
	build := p.Spec.Tasks[1]
	Expect(build.TaskRef.Name).To(Equal("buildpacks"))
	var variables pipelineapi.ParamValue
	for _, param := range build.Params {
		if param.Name == "ENV_VARS" {
			variables = param.Value
		}
	}
	Expect(variables.Type).To(Equal(pipelineapi.ParamTypeArray))
	Expect(variables.ArrayVal).To(ContainElements("BP_NIX_REMOVE_SOURCE=true", "BP_NIX_GIT_REV=$(tasks.fetch.results.commit)"))
}

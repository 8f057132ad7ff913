package hydratest_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	. "github.com/onsi/gomega"
	"go.yaml.in/yaml/v3"
)

// schema is as much of OpenAPI 3.0 as hydra-api.yaml uses for answers.
type schema struct {
	Paths      map[string]map[string]any
	Components struct{ Schemas map[string]map[string]any }
	checked    int
}

// differs lists where Hydra's sources do not do what the schema says; all below lib/Hydra.
var differs = map[string]string{
	"JobsetEval.hasnewbuilds": "a number: Schema/Result/JobsetEvals.pm gives the column as it is",
	"Build.finished":          "a number: Schema/Result/Builds.pm gives the column as it is",
	"Build.starttime":         "null until the build is finished",
	"Build.stoptime":          "null until the build is finished",
	"Build.priority":          "null in lists that do not read the column (Helper/CatalystUtils.pm)",
	"Build.drvpath":           "null in lists that do not read the column (Helper/CatalystUtils.pm)",
	"BuildOutput.path":        "null where a content-addressed output is not built",
	"Project.declarative":     "left out of a project that is not declarative",
	"Jobset.startime":         "misspelt, it is starttime",
	"Evaluations.next":        "left out on the last page",
}

func readSchema(file string) *schema {
	data, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred())
	s := &schema{}
	Expect(yaml.Unmarshal(data, s)).To(Succeed())
	Expect(s.Components.Schemas).NotTo(BeEmpty(), "no schemas in "+file)
	return s
}

// of finds the schema of a path's answer, nil where none is published.
func (s *schema) of(path string) map[string]any {
	for template, methods := range s.Paths {
		pattern := "^" + regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(template, "[^/]+") + "$"
		if !regexp.MustCompile(pattern).MatchString(path) || methods["get"] == nil {
			continue
		}
		node := any(methods)
		for _, key := range []string{"get", "responses", "200", "content", "application/json", "schema"} {
			object, ok := node.(map[string]any)
			if !ok {
				return nil
			}
			node = object[key]
		}
		found, _ := node.(map[string]any)
		return s.corrected(template, found)
	}
	return nil
}

// corrected replaces two shapes that the sources, and the first's own example, contradict.
func (s *schema) corrected(template string, node map[string]any) map[string]any {
	switch {
	case strings.HasSuffix(template, "/evals"):
		// published: a list of pages, each of whose evaluations is an object of evaluations
		page := s.Components.Schemas["Evaluations"]
		evals := page["properties"].(map[string]any)["evals"].(map[string]any)
		evals["items"] = map[string]any{"$ref": "#/components/schemas/JobsetEval"}
		return map[string]any{"$ref": "#/components/schemas/Evaluations"}
	case strings.HasSuffix(template, "/builds"):
		// published: a list of objects of builds
		return map[string]any{"type": "array", "items": map[string]any{"$ref": "#/components/schemas/Build"}}
	}
	return node
}

// check validates v; name is that of the component it is within.
func (s *schema) check(v any, node map[string]any, name, at string) error {
	s.checked++
	if ref, ok := node["$ref"].(string); ok {
		name = ref[strings.LastIndexByte(ref, '/')+1:]
		return s.check(v, s.Components.Schemas[name], name, at)
	}
	if v == nil && node["nullable"] == true {
		return nil
	}
	wrong := fmt.Errorf("%s: %v is not what the schema of %s says: %v", at, v, name, node["type"])
	switch node["type"] {
	case "integer":
		if n, ok := v.(float64); !ok || n != float64(int64(n)) {
			return wrong
		}
	case "string":
		if _, ok := v.(string); !ok {
			return wrong
		}
	case "boolean":
		if node["oneOf"] != nil {
			return nil // JobsetEvalInput.value is given several types
		}
		if _, ok := v.(bool); !ok {
			return wrong
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return wrong
		}
		items, _ := node["items"].(map[string]any)
		for i, item := range list {
			if err := s.check(item, items, name, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "object":
		return s.checkObject(v, node, name, at)
	}
	return nil
}

func (s *schema) checkObject(v any, node map[string]any, name, at string) error {
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is not an object", at, v)
	}
	if other, ok := node["additionalProperties"].(map[string]any); ok {
		for key, value := range object {
			if err := s.check(value, other, name, at+"."+key); err != nil {
				return err
			}
		}
	}
	properties, _ := node["properties"].(map[string]any)
	for key, property := range properties {
		if _, known := differs[name+"."+key]; known {
			continue
		}
		value, there := object[key]
		if !there && len(object) > 0 {
			return fmt.Errorf("%s: %s has no %q", at, name, key)
		}
		if there {
			if err := s.check(value, property.(map[string]any), name, at+"."+key); err != nil {
				return err
			}
		}
	}
	return nil
}

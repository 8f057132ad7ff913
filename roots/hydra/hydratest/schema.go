package hydratest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"
)

// fields are an object's, each with the types it may have: int, string, bool, null, [name] for a list, {name} for an
// object of objects by name, and the name of another table. All of them must be there, and no others.
type fields map[string]string

// tables hold what Hydra's sources serialize. The comment of each says where that is, below lib/Hydra/Schema/Result.
func tables() map[string]fields {
	return map[string]fields{
		"Build": { // Builds.pm, as_json
			"id": "int", "finished": "int", "timestamp": "int null", "starttime": "int null", "stoptime": "int null",
			"project": "string", "jobset": "string", "job": "string", "nixname": "string null", "system": "string",
			"priority": "int null", "buildstatus": "int null", "releasename": "string null", "drvpath": "string null",
			"jobsetevals": "[int]", "buildoutputs": "{BuildOutput}", "buildproducts": "{BuildProduct}",
			"buildmetrics": "{BuildMetric}",
		},
		"BuildOutput": {"path": "string null"}, // BuildOutputs.pm
		"BuildProduct": { // BuildProducts.pm
			"type": "string", "subtype": "string", "name": "string", "filesize": "int null", "sha256hash": "string null",
			"path": "string null", "defaultpath": "string null",
		},
		"BuildMetric": {"value": "string int", "unit": "string null"}, // BuildMetrics.pm
		"BuildStep": { // BuildSteps.pm
			"machine": "string", "system": "string null", "stepnr": "int", "drvpath": "string null",
			"starttime": "int null", "resolveddrvpath": "string null", "build": "{Build}",
		},
		"JobsetEval": { // JobsetEvals.pm
			"timestamp": "int", "checkouttime": "int", "evaltime": "int", "hasnewbuilds": "int", "id": "int",
			"flake": "string null", "builds": "[int]", "jobsetevalinputs": "{JobsetEvalInput}",
		},
		"JobsetEvalInput": { // JobsetEvalInputs.pm
			"revision": "string null", "value": "string null", "type": "string", "uri": "string null",
			"dependency": "int null",
		},
		"Jobset": { // Jobsets.pm, as_json
			"errortime": "int null", "lastcheckedtime": "int null", "triggertime": "int null", "enabled": "int",
			"keepnr": "int", "checkinterval": "int", "schedulingshares": "int", "starttime": "int null",
			"name": "string", "project": "string", "description": "string", "nixexprinput": "string",
			"nixexprpath": "string", "errormsg": "string", "emailoverride": "string", "fetcherrormsg": "string",
			"type": "int", "flake": "string", "enableemail": "bool", "enable_dynamic_run_command": "bool",
			"visible": "bool", "inputs": "{JobsetInput}",
		},
		"JobsetInput": { // JobsetInputs.pm, as_json
			"name": "string", "type": "string", "value": "string", "emailresponsible": "bool",
		},
		"Project": { // Projects.pm, as_json, of a project that is not declarative
			"name": "string", "displayname": "string", "description": "string", "homepage": "string", "owner": "string",
			"enabled": "bool", "enable_dynamic_run_command": "bool", "hidden": "bool", "jobsets": "[string]",
		},
		"SearchResult": { // Controller/Root.pm, search
			"projects": "[Project]", "jobsets": "[Jobset]", "builds": "[Build]", "buildsdrv": "[Build]",
		},
		"Evaluations": { // Controller/Jobset.pm, evals_GET
			"evals": "[JobsetEval]", "first": "string", "last": "string", "next": "string absent",
			"previous": "string absent",
		},
	}
}

// routes say which table an address answers with.
func routes() map[string]string {
	return map[string]string{
		`/`:                             "[Project]",
		`/status`:                       "[Build]",
		`/search`:                       "SearchResult",
		`/project/[^/]+`:                "Project",
		`/jobset/[^/]+/[^/]+(/errors)?`: "Jobset",
		`/jobset/[^/]+/[^/]+/evals`:     "Evaluations",
		`/eval/[0-9]+(/errors)?`:        "JobsetEval",
		`/eval/[0-9]+/builds`:           "[Build]",
		`/build/[0-9]+`:                 "Build",
		`/build/[0-9]+/constituents`:    "[Build]",
		`/build/[0-9]+/step/[0-9]+`:     "BuildStep",
	}
}

// CheckAnswer reports how a JSON answer of status 200 differs from what a Hydra would send from this path.
func CheckAnswer(path string, body []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return fmt.Errorf("checking answer of %s: %w", path, err)
	}
	for pattern, kind := range routes() {
		if regexp.MustCompile("^" + pattern + "$").MatchString(path) {
			if err := check(v, kind); err != nil {
				return fmt.Errorf("checking answer of %s: %w", path, err)
			}
			return nil
		}
	}
	return fmt.Errorf("checking answer of %s: Hydra has no such address", path)
}

func check(v any, kinds string) error {
	var err error
	for _, kind := range strings.Fields(kinds) {
		if err = checkOne(v, kind); err == nil {
			return nil
		}
	}
	return err
}

func checkOne(v any, kind string) error {
	wrong := fmt.Errorf("%v is not %s", v, kind)
	switch kind {
	case "null":
		if v != nil {
			return wrong
		}
		return nil
	case "string":
		if _, ok := v.(string); !ok {
			return wrong
		}
		return nil
	case "bool":
		if _, ok := v.(bool); !ok {
			return wrong
		}
		return nil
	case "int":
		n, ok := v.(json.Number)
		if !ok {
			return wrong
		}
		if _, err := n.Int64(); err != nil {
			return wrong
		}
		return nil
	}
	inner := strings.Trim(kind, "[]{}")
	switch kind[0] {
	case '[':
		list, ok := v.([]any)
		if !ok {
			return wrong
		}
		for i, item := range list {
			if err := check(item, inner); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return nil
	case '{':
		object, ok := v.(map[string]any)
		if !ok {
			return wrong
		}
		for name, item := range object {
			if err := check(item, inner); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return wrong
	}
	return checkFields(object, kind)
}

func checkFields(object map[string]any, name string) error {
	table, ok := tables()[name]
	if !ok {
		return fmt.Errorf("there is no table %s", name)
	}
	keys := make([]string, 0, len(table))
	for key := range table {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		value, there := object[key]
		kinds, optional := strings.CutSuffix(table[key], " absent")
		switch {
		case !there && optional:
		case !there:
			return fmt.Errorf("%s has no %q", name, key)
		default:
			if err := check(value, kinds); err != nil {
				return fmt.Errorf("%s.%s: %w", name, key, err)
			}
		}
	}
	for key := range object {
		if _, known := table[key]; !known {
			return fmt.Errorf("%s has %q, which Hydra does not send", name, key)
		}
	}
	return nil
}

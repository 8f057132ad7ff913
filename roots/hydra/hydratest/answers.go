package hydratest

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// object is a JSON object; nil is null.
type object = map[string]any

// buildJSON is Schema/Result/Builds.pm, as_json.
func (b *Build) json() object {
	outputs := object{}
	for name, path := range b.job.Outputs {
		outputs[name] = object{"path": orNull(path, path != "")}
	}
	products := object{}
	if out := b.job.Outputs["out"]; b.finished && b.status == 0 && out != "" {
		products["1"] = object{"type": "nix-build", "subtype": "", "name": b.job.NixName, "filesize": nil,
			"sha256hash": nil, "path": out, "defaultpath": ""}
	}
	evals := append([]int64{}, b.evals...)
	return object{
		"id": b.ID, "finished": bit(b.finished), "timestamp": b.queued,
		"starttime": orNull(b.started, b.finished), "stoptime": orNull(b.stopped, b.finished),
		"project": b.jobset.project.Name, "jobset": b.jobset.Name, "job": b.job.Name, "nixname": b.job.NixName,
		"system": b.job.System, "priority": 100, "buildstatus": orNull(b.status, b.finished), "releasename": nil,
		"drvpath": b.job.DrvPath, "jobsetevals": evals, "buildoutputs": outputs, "buildproducts": products,
		"buildmetrics": object{},
	}
}

// listed is a build of which only the columns of lists were read (Helper/CatalystUtils.pm, buildListColumns).
func (b *Build) listed() object {
	j := b.json()
	for _, column := range []string{"starttime", "priority", "drvpath"} {
		j[column] = nil
	}
	return j
}

// evalJSON is Schema/Result/JobsetEvals.pm, json_hint, by way of Component/ToJSON.pm.
func (e *Eval) json() object {
	builds := []int64{}
	for _, b := range e.builds {
		builds = append(builds, b.ID)
	}
	inputs := object{}
	for name, i := range e.given.Inputs {
		kind := i.Type
		if kind == "" {
			kind = "git"
		}
		inputs[name] = object{"revision": orNull(i.Revision, i.Revision != ""), "value": orNull(i.Value, i.Value != ""),
			"type": kind, "uri": orNull(i.URI, i.URI != ""), "dependency": nil}
	}
	return object{"timestamp": e.time, "checkouttime": 1, "evaltime": 2, "hasnewbuilds": bit(!e.unlisted), "id": e.ID,
		"flake": orNull(e.given.Flake, e.given.Flake != ""), "builds": builds, "jobsetevalinputs": inputs}
}

// json is Schema/Result/Jobsets.pm, as_json. The error message is read for …/errors only (ResultSet/Jobsets.pm).
func (j *Jobset) json(withError bool) object {
	message := ""
	var at any
	if j.errorMessage != "" {
		at = j.checked
		if withError {
			message = j.errorMessage
		}
	}
	kind, inputs := 0, object{}
	if j.flake != "" {
		kind = 1
	} else if len(j.evals) > 0 {
		for name, i := range j.evals[len(j.evals)-1].given.Inputs {
			kind, value := cmp.Or(i.Type, "git"), cmp.Or(i.Value, i.URI)
			inputs[name] = object{"name": name, "type": kind, "value": strings.TrimSpace(value + " " + i.Options),
				"emailresponsible": false}
		}
	}
	return object{
		"errortime": at, "lastcheckedtime": j.checked, "triggertime": pointer(j.triggered), "enabled": j.enabled,
		"keepnr": 3, "checkinterval": 300, "schedulingshares": 100, "starttime": pointer(j.started), "name": j.Name,
		"project": j.project.Name, "description": "", "nixexprinput": "src", "nixexprpath": "release.nix",
		"errormsg": message, "emailoverride": "", "fetcherrormsg": j.fetchError, "type": kind, "flake": j.flake,
		"enableemail": false, "enable_dynamic_run_command": false, "visible": true, "inputs": inputs,
	}
}

// json is Schema/Result/Projects.pm, as_json.
func (p *Project) json() object {
	return object{"name": p.Name, "displayname": p.Name, "description": "", "homepage": "", "owner": "admin",
		"enabled": !p.disabled, "enable_dynamic_run_command": false, "hidden": false, "jobsets": names(p.jobsets)}
}

// stepJSON is Schema/Result/BuildSteps.pm, json_hint.
func (b *Build) stepJSON(n int) object {
	return object{"machine": "", "system": b.job.System, "stepnr": n, "drvpath": b.steps[n-1].DrvPath,
		"starttime": b.started, "resolveddrvpath": nil, "build": object{strconv.FormatInt(b.ID, 10): b.json()}}
}

// page is Controller/Jobset.pm, evals_GET.
func (j *Jobset) page(n int) object {
	const size = 20
	var listed []*Eval
	for i := len(j.evals) - 1; i >= 0; i-- {
		if !j.evals[i].unlisted {
			listed = append(listed, j.evals[i])
		}
	}
	last := (len(listed) + size - 1) / size
	evals := []object{}
	for i := max(0, (n-1)*size); i < min(n*size, len(listed)); i++ {
		evals = append(evals, listed[i].json())
	}
	page := object{"evals": evals, "first": "?page=1", "last": fmt.Sprintf("?page=%d", last)}
	if n > 1 {
		page["previous"] = fmt.Sprintf("?page=%d", n-1)
	}
	if n < last {
		page["next"] = fmt.Sprintf("?page=%d", n+1)
	}
	return page
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func orNull[T any](v T, is bool) any {
	if is {
		return v
	}
	return nil
}

func pointer(v *int64) any {
	if v == nil {
		return nil
	}
	return *v
}

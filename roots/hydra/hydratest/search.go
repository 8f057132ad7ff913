package hydratest

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var searchText = regexp.MustCompile(`^[a-zA-Z0-9_\-/.]+$`)

// derivation is the beginning of a store path's base name, with which its index finds few.
var derivation = regexp.MustCompile(`^[0-9a-z]{32}-`)

// search is Controller/Root.pm, search: SQL's ILIKE with the query between two per cent signs, in which an underscore
// stands for any character.
func (s *Server) search(query, limit string) any {
	query = strings.TrimSpace(query)
	switch {
	case query == "":
		return failure{http.StatusInternalServerError, "Query is empty."}
	case !searchText.MatchString(query):
		return failure{http.StatusInternalServerError, "Invalid character in query."}
	}
	if s.slow && !derivation.MatchString(query) {
		return failure{http.StatusInternalServerError, "Caught exception in Hydra::Controller::Root->search \"DBIx::Class::" +
			"Storage::DBI::_dbh_execute(): DBI Exception: DBD::Pg::st execute failed: ERROR:  canceling statement due to " +
			"statement timeout [for Statement \"SELECT me.id FROM builds me\"]\""}
	}
	most, err := strconv.Atoi(limit)
	if err != nil {
		most = 10
	}
	most = min(50, max(1, most))
	pattern := regexp.MustCompile("(?i)" + strings.ReplaceAll(regexp.QuoteMeta(query), "_", "."))
	projects, jobsets, builds, byDrv := []object{}, []object{}, []object{}, []object{}
	for _, name := range names(s.projects) {
		if pattern.MatchString(name) {
			projects = append(projects, s.projects[name].json())
		}
		for _, jobset := range names(s.projects[name].jobsets) {
			if pattern.MatchString(jobset) {
				jobsets = append(jobsets, s.projects[name].jobsets[jobset].json(false))
			}
		}
	}
	for _, id := range slices.Backward(s.buildIDs()) {
		b := s.builds[id]
		if pattern.MatchString(b.job.DrvPath) && len(byDrv) < most {
			byDrv = append(byDrv, b.json())
		}
		for _, name := range names(b.job.Outputs) {
			if pattern.MatchString(b.job.Outputs[name]) && len(builds) < most {
				builds = append(builds, b.json())
			}
		}
	}
	return object{"projects": projects, "jobsets": jobsets, "builds": builds, "buildsdrv": byDrv}
}

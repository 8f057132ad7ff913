package closure

import (
	"context"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// plan is called when all that is referred to is known.
func (r *run) plan() error {
	all := &Graph{Roots: r.Roots, Nodes: r.nodes}
	g := &Graph{Roots: r.Roots, Nodes: map[storepath.Path]*Node{}}
	for _, p := range all.ClosureOf(r.Roots...) {
		g.Nodes[p] = r.nodes[p]
	}
	if _, err := g.Topological(); err != nil {
		return err
	}
	r.graph = g
	if r.layout.IsZero() && !r.Layout.IsZero() && len(r.blocked) == 0 {
		if r.blocked = holding(r.Previous.Blocked, g); len(r.blocked) == 0 {
			r.layout = r.Layout // what stood in the way last time is gone
		}
	}
	r.arrange()
	return nil
}

// arrange plans the layers and asks for what those need that are to be unpacked.
func (r *run) arrange() {
	r.groups = r.grouped(r.graph, r.layout)
	for _, group := range r.unpacked(Changed(r.kept(), r.groups)) {
		for _, p := range group.Paths {
			if found := r.found[p]; found == nil {
				r.again(p)
			} else if _, have := r.have[p]; !have && !r.progress.expects(p) {
				r.fetch(found)
			}
		}
	}
}

// unpacked are the groups that changed and those with a path that is wanted.
func (r *run) unpacked(changed []Group) []Group {
	return slices.DeleteFunc(slices.Clone(r.groups), func(g Group) bool {
		return !contains(changed, g) && !slices.ContainsFunc(g.Paths, r.Wanted)
	})
}

// again looks up a path whose node is known but whose bytes are needed.
func (r *run) again(p storepath.Path) {
	if !slices.Contains(r.asking, p) {
		r.asking = append(r.asking, p)
	}
}

// kept are the groups that the previous image has for this layout.
func (r *run) kept() []Group {
	if r.Previous.Prefix != r.layout.Dir() {
		return nil
	}
	return r.Previous.Groups
}

// settle is called when no job is left. It decides whether the closure can be relocated, and reports whether that
// made more work.
func (r *run) settle(ctx context.Context) (again bool, err error) {
	if !r.layout.IsZero() {
		reasons := graphReasons(r.graph, r.layout)
		for _, n := range r.graph.Sorted() {
			if st, ok := r.have[n.Path]; ok && st.Prefix == r.layout.Dir() {
				reasons = append(reasons, blockerReasons(n.Path, st.Report)...)
			}
		}
		if len(reasons) > 0 && r.Strict {
			return false, &BlockedError{Reasons: reasons}
		}
		if len(reasons) > 0 {
			sortReasons(reasons)
			r.blocked, r.layout = reasons, relocate.Layout{}
			r.arrange()
		}
	}
	for _, n := range r.graph.Sorted() {
		if st, ok := r.have[n.Path]; ok && st.Prefix != r.layout.Dir() {
			again = true
			delete(r.have, n.Path)
			r.turning = append(r.turning, st)
		}
	}
	return again || len(r.asking) > 0 || len(r.waiting) > 0, nil
}

// result is what a run that has nothing left to do has come to.
func (r *run) result() *Result {
	result := &Result{
		Graph: r.graph, Groups: r.groups, Changed: Changed(r.kept(), r.groups), Layout: r.layout, Blocked: r.blocked,
		Staged: r.staged, obstacles: r.blocked, tried: r.Layout.Dir(),
	}
	if r.Layout.IsZero() {
		result.obstacles, result.tried = holding(r.Previous.Blocked, r.graph), r.Previous.Tried
	}
	for _, p := range r.fetched {
		result.Fetched.add(r.nodes[p])
	}
	result.Unpacked = r.unpacked(result.Changed)
	for _, group := range r.groups {
		if !contains(result.Unpacked, group) {
			for _, p := range group.Paths {
				result.Reused.add(r.graph.Nodes[p])
			}
		}
	}
	for p, n := range r.Previous.Nodes {
		if r.graph.Nodes[p] == nil {
			result.Removed.add(n)
		}
	}
	for _, n := range r.graph.Sorted() {
		if !r.layout.IsZero() {
			result.Overruled = append(result.Overruled, n.Overruled...)
		}
		result.References += r.have[n.Path].Report.References
		result.Harmless += r.have[n.Path].Report.Harmless
	}
	r.progress.summary(r)
	return result
}

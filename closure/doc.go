// Package closure turns roots into layers: which store paths they need, which layer holds which path, and the paths'
// files, fetched, verified and put in their place.
//
// The road through it, each step a plain value for the next:
//
//	Recall      what the previous image's layer metadata promises  → Previous
//	Substitute  narinfos, downloads, relocation, all overlapping   → Result (a Graph, and a Plan of Groups)
//	Plan        Graph and previous Groups                          → Groups; pure, called by Substitute
//	Place       unpacked paths into <layers>/<layer>/<base>        → the changed layers' directories
//	View        one link per path                                  → the directory that the app sees as its store
//	Verify      layers back to the NAR hashes that caches signed   → Audit
//
// Nothing here knows what a buildpack is; docs/layers.md explains the choice of layers.
package closure

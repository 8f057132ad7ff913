// Package closure turns roots into layers: which store paths they need, which layer holds which path, and the paths'
// files, fetched, verified and installed.
//
// The steps, each a plain value for the next:
//
//	ReadPrevious  what the last build has recorded of its layers     → Previous
//	Substitute    resolve, plan, fetch: see below                    → Result (a Graph, Groups, what was fetched)
//	Install       unpacked paths into <layers>/<layer>/<base>        → the changed layers' directories
//	WriteView     one link per path                                  → the directory that the app sees as its store
//
// Substitute is itself three steps, in substitute.go, of which the last runs beside the others:
//
//	resolve       roots, Previous, else narinfos                     → a Graph
//	plan          a Graph                                            → relocated or not; Groups, by Plan, which is pure
//	fetch         what changed Groups lack                           → paths in staging: verified, relocated
//
// Nothing here knows what a buildpack is; docs/layers.md explains the choice of layers.
package closure

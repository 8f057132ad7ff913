// Package closure turns roots into layers: which store paths they need, which layer holds which path, and the paths'
// files, fetched, verified and installed.
//
// The steps, each a plain value for the next:
//
//	ReadPrevious  what the last build has recorded of its layers     → Previous
//	Substitute    narinfos, downloads, relocation, all overlapping   → Result (a Graph, and a Plan of Groups)
//	Plan          a Graph                                            → Groups; pure, called by Substitute
//	Install       unpacked paths into <layers>/<layer>/<base>        → the changed layers' directories
//	View          one link per path                                  → the directory that the app sees as its store
//
// Nothing here knows what a buildpack is; docs/layers.md explains the choice of layers.
package closure

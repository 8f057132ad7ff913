// Package relocate rewrites the store paths that a closure's files name to the directory the closure lives in, while
// the files stream from a NAR to disk, and rewrites them back.
//
// A reference is the 43 bytes "/nix/store/<32-character hash>"; the "-<name>" after it is never touched. It becomes
// "<view directory>/<first characters of the hash>", as many as make 43 bytes again, so no offset moves and whatever
// describes the file's layout stays true. Nix finds the references of a path by searching its NAR for hashes; what
// that search can see, this package can rewrite.
//
// Whatever else could name a store path (compressed, encoded, covered by a checksum) is looked for on the way. Where the
// format is one that can be written, FixTree rewrites the file as a whole, puts right what the format checks, and
// records what stood there as a Fixup; Undo applies the record backwards, so that the archive comes back byte for byte.
// All else is reported as a Blocker.
//
// The relocated contents of a path depend on its NAR, its references and the view directory, and on nothing else.
// docs/relocation.md has the table of families, and those of blockers and of harmless places.
package relocate

// Package builds tests whole builds that need no real parts, and so run everywhere: the test program is the buildpack, and what
// it installs are files that a test has put into a binary cache.
package builds

// Package nixproot is the buildpack: detect.go and build.go are its two phases, each to be read from top to bottom, and
// verify.go, inspect.go and survey.go the command lines of its other programs. It reads settings, service bindings and
// the record of the last build, has the packages below find and fetch what they name, and writes layers and process
// types.
//
// What to do about an error stands here and nowhere below: advice.go has an entry for each, explain.go finds it.
package nixproot

package roots

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/nixinstall"
	"github.com/nixproot/nix-hydra-buildpack/nixinstall/sourcefile"
)

// configurations are the files of a source that may hold Nix's settings, nix.conf's lines or a shell's assignment of
// NIX_CONFIG.
func configurations() []string {
	return []string{"nix.conf", ".config/nix/nix.conf", "nix/nix.conf", ".envrc", ".env"}
}

// maxConfiguration bounds a file that is read for settings.
const maxConfiguration = 1 << 20

// settingLine finds the caches and keys in nix.conf's lines (NixOS/nix: src/libstore/globals.hh, substituters and
// trusted-public-keys), which may stand in an assignment's quotes.
var settingLine = regexp.MustCompile(`(?m)(?:^|["'\s;$])(?:extra-)?(substituters|trusted-public-keys|trusted-substituters)` +
	`[ \t]*=[ \t]*([^\n"'#\\]*)`)

// comment is what a line says to people only.
var comment = regexp.MustCompile(`(?m)(^|[ \t])#.*$`)

// configured looks for caches and keys that the source itself lists for Nix. They are not obeyed: whoever can write to a
// source could say with them whom to trust.
func (e evaluation) configured(ctx context.Context) []Finding {
	var findings []Finding
	if e.Flake != "" || exists(filepath.Join(e.Source, "flake.nix")) {
		listed, err := e.flakeConfig(ctx)
		if err == nil && len(listed.Substituters)+len(listed.TrustedPublicKeys) > 0 {
			findings = append(findings, ConfiguredCaches{Place: "nixConfig of flake.nix", Substituters: listed.Substituters,
				TrustedPublicKeys: listed.TrustedPublicKeys})
		}
	}
	for _, name := range configurations() {
		if found := readSettings(ctx, filepath.Join(e.Source, name)); found != nil {
			found.Place = name
			findings = append(findings, *found)
		}
	}
	return findings
}

// flakeConfig reads flake.nix where its source is in the store already.
func (e evaluation) flakeConfig(ctx context.Context) (nixinstall.FlakeConfig, error) {
	first := e.sourceNames()[0][0]
	source, err := nixinstall.SourcePath(ctx, e.Source, nixinstall.SourceOptions{Name: first.name, Rule: first.rule,
		Exclude: e.Exclude})
	if err != nil {
		return nixinstall.FlakeConfig{}, err
	}
	return e.nix.FlakeConfig(ctx, source)
}

func exists(file string) bool {
	info, err := os.Lstat(file)
	return err == nil && info.Mode().IsRegular()
}

// readSettings reads a file's caches and keys, nil where it lists none.
func readSettings(ctx context.Context, file string) *ConfiguredCaches {
	data, err := sourcefile.Read(ctx, file, maxConfiguration)
	if err != nil {
		return nil
	}
	var found ConfiguredCaches
	data = comment.ReplaceAll(bytes.ReplaceAll(data, []byte(`\n`), []byte("\n")), nil)
	for _, line := range settingLine.FindAllSubmatch(data, -1) {
		values := strings.Fields(string(line[2]))
		if string(line[1]) == "trusted-public-keys" {
			found.TrustedPublicKeys = append(found.TrustedPublicKeys, values...)
		} else {
			found.Substituters = append(found.Substituters, values...)
		}
	}
	if len(found.Substituters)+len(found.TrustedPublicKeys) == 0 {
		return nil
	}
	return &found
}

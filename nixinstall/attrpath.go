package nixinstall

import (
	"fmt"
	"strings"
)

// parseAttrPath splits an attribute path as nix-build -A does: at dots, save inside double quotes
// (NixOS/nix: src/libexpr/attr-path.cc). A leading dot gives a first element that is empty: a flake's way to say
// that the path is complete.
func parseAttrPath(s string) ([]string, error) {
	parts := []string{}
	if s == "" {
		return parts, nil
	}
	var part strings.Builder
	quoted, wasQuoted := false, false
	end := func() error {
		if part.Len() == 0 && !wasQuoted && len(parts) > 0 {
			return fmt.Errorf("parsing attribute path %q: a name between two dots is empty", s)
		}
		parts = append(parts, part.String())
		part.Reset()
		wasQuoted = false
		return nil
	}
	for _, r := range s {
		switch {
		case r == '"':
			quoted, wasQuoted = !quoted, true
		case r == '.' && !quoted:
			if err := end(); err != nil {
				return nil, err
			}
		default:
			part.WriteRune(r)
		}
	}
	if quoted {
		return nil, fmt.Errorf("parsing attribute path %q: the double quote is not closed", s)
	}
	if err := end(); err != nil {
		return nil, err
	}
	return parts, nil
}

// quoteNix writes a string as a Nix string literal.
func quoteNix(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", `\${`, "\r", `\r`).Replace(s) + `"`
}

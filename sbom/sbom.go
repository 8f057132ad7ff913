// Package sbom writes bills of materials in the three formats that buildpacks may give: CycloneDX, SPDX and Syft's own.
// The same bill gives the same bytes, in whichever order its components were found.
package sbom

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Component is one thing in an image, or one that made it.
type Component struct {
	// Ref is what dependencies name it by: a store path, for what has one.
	Ref     string
	Name    string
	Version string
	// Output is the derivation's output, "" for out.
	Output string
	// SHA256 is the digest of the NAR of what has a store path, else of the file, in hex; "" where it is not known.
	SHA256 string
	// Licenses are identifiers of the form of SPDX's, which its list need not have; none where nothing tells.
	Licenses []string
	PURL     string
	CPEs     []string
	// Properties are what else is known, by names such as "nix:nar_hash".
	Properties map[string]string
	// Path is where it is in the image, as a container's programs find it without any mount.
	Path string
	// Application says that it is a program by itself, and no library.
	Application bool
	// DependsOn are the Refs of what it needs; itself is left out.
	DependsOn []string
}

// Bill is a bill of materials.
type Bill struct {
	// Root is what all the rest is for. Its DependsOn are what was asked for.
	Root       Component
	Components []Component
	// Architecture is that of the image which the bill is of, as the OCI image specification names it; "" for what is no image.
	Architecture string
	// Tool and ToolVersion name what wrote the bill.
	Tool, ToolVersion string
	Created           time.Time
}

// Formats are the writers by media type, as buildpack.toml's sbom-formats names them.
func Formats() map[string]func(Bill, io.Writer) error {
	return map[string]func(Bill, io.Writer) error{
		"application/vnd.cyclonedx+json": Bill.CycloneDX,
		"application/spdx+json":          Bill.SPDX,
		"application/vnd.syft+json":      Bill.Syft,
	}
}

// yearTenThousand is when a year takes five digits, which RFC 3339 does not have, in seconds.
const yearTenThousand = 253402300800

// Created is the time that a bill carries, so that it is the same each time: SOURCE_DATE_EPOCH, or the one that the
// lifecycle gives to files, 1980-01-01 00:00:01, also where CheckEpoch refuses it.
func Created(sourceDateEpoch string) time.Time {
	if seconds, err := CheckEpoch(sourceDateEpoch); err == nil {
		return time.Unix(seconds, 0).UTC()
	}
	return time.Date(1980, 1, 1, 0, 0, 1, 0, time.UTC)
}

// CheckEpoch reads a SOURCE_DATE_EPOCH, in seconds since 1970 (reproducible-builds.org/specs/source-date-epoch, which has builds
// fail at a malformed one).
func CheckEpoch(sourceDateEpoch string) (seconds int64, err error) {
	seconds, err = strconv.ParseInt(sourceDateEpoch, 10, 64)
	if err == nil && (seconds < 0 || seconds >= yearTenThousand) {
		err = strconv.ErrRange
	}
	return seconds, err
}

// sorted is the bill's components in order, each with its dependencies in order.
func (b Bill) sorted() []Component {
	all := slices.Clone(b.Components)
	slices.SortFunc(all, func(x, y Component) int { return cmp.Compare(x.Ref, y.Ref) })
	for i := range all {
		all[i] = all[i].ordered()
	}
	return all
}

func (c Component) ordered() Component {
	c.DependsOn = slices.Clone(c.DependsOn)
	slices.Sort(c.DependsOn)
	c.DependsOn = slices.DeleteFunc(slices.Compact(c.DependsOn), func(ref string) bool { return ref == c.Ref })
	return c
}

// architectureProperty names the image's architecture, by the field of the OCI image configuration, where a format has none.
const architectureProperty = "oci:architecture"

// root is the bill's root, its dependencies in order, with what is known of the image.
func (b Bill) root() Component {
	root := b.Root.ordered()
	if b.Architecture != "" {
		properties := map[string]string{architectureProperty: b.Architecture}
		maps.Copy(properties, root.Properties)
		root.Properties = properties
	}
	return root
}

// digest identifies the bill by all that it says.
func (b Bill) digest() [sha256.Size]byte {
	b.Root, b.Components = b.Root.ordered(), b.sorted()
	all, err := json.Marshal(b)
	if err != nil {
		panic(err) // of strings, and of a time within what Created gives
	}
	return sha256.Sum256(all)
}

// uuid is the bill's digest as a UUID of version 8 (RFC 9562).
func (b Bill) uuid() string {
	d := b.digest()
	d[6], d[8] = d[6]&0x0f|0x80, d[8]&0x3f|0x80
	s := hex.EncodeToString(d[:16])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// file writes to a file what write gives.
func file(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Write writes the bill in a format to a file.
func (b Bill) Write(mediaType, name string) error {
	format := Formats()[mediaType]
	if format == nil {
		return fmt.Errorf("writing bill of materials: there is no format %q", mediaType)
	}
	if err := file(name, func(w io.Writer) error { return format(b, w) }); err != nil {
		return fmt.Errorf("writing bill of materials: %w", err)
	}
	return nil
}

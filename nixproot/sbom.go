package nixproot

import (
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/buildpacks/libcnb/v2"
	"github.com/package-url/packageurl-go"
	"github.com/paketo-buildpacks/libpak/v2"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/sbom"
)

// launcherRef names the launcher in a bill of materials, and imageRef the image.
const (
	launcherRef = "launcher"
	imageRef    = "image"
)

// billFormats are the formats that are written; buildpack.toml declares them.
func billFormats() []libcnb.SBOMFormat {
	return []libcnb.SBOMFormat{libcnb.CycloneDXJSON, libcnb.SPDXJSON, libcnb.SyftJSON}
}

// billOptions is what an image holds beside its closure.
type billOptions struct {
	// Version is this buildpack's, Epoch what SOURCE_DATE_EPOCH says, System the image's as Nix names it.
	Version, Epoch, System string
	// PlaceOf is where a store path is in the image.
	PlaceOf func(storepath.Path) string
	// Licenses are the SPDX identifiers of store paths, where the expression tells them.
	Licenses map[storepath.Path][]string
	// Launcher is the launcher's program, to be hashed, and LauncherPath where it is in the image.
	Launcher, LauncherPath string
	// PRoot is set where it is in the image, at PRootPath.
	PRoot     *libpak.BuildModuleDependency
	PRootPath string
}

// billOf is the bill of materials of an image with a closure: a component for each store path with its NAR hash, the
// references among them, the launcher, and PRoot where the image has it.
func billOf(graph *closure.Graph, options billOptions) (sbom.Bill, error) {
	sum, err := digestFile(options.Launcher)
	if err != nil {
		return sbom.Bill{}, fmt.Errorf("hashing the launcher: %w", err)
	}
	bill := sbom.Bill{
		Root: sbom.Component{Ref: imageRef, Name: imageRef, DependsOn: []string{launcherRef}},
		Tool: launchlayer.BuildpackID, ToolVersion: options.Version, Created: sbom.Created(options.Epoch),
		Architecture: architectureOf(options.System),
		Components: []sbom.Component{{
			Ref: launcherRef, Name: launch.ProcessProgramName, Version: options.Version, SHA256: sum,
			Licenses: []string{"Apache-2.0"}, Path: options.LauncherPath, Application: true,
			PURL: packageurl.NewPackageURL(packageurl.TypeGolang, "github.com/nixproot", "nix-hydra-buildpack", options.Version,
				nil, "cmd/launch").ToString(),
		}},
	}
	for i, root := range graph.Roots {
		bill.Root.DependsOn = append(bill.Root.DependsOn, root.String())
		if i == 0 {
			bill.Root.Name, bill.Root.Version, _ = sbom.ParseName(root.Name())
		}
	}
	for _, node := range graph.Sorted() {
		c := storeComponent(node)
		c.Path = options.PlaceOf(node.Path)
		c.Licenses = options.Licenses[node.Path]
		bill.Components = append(bill.Components, c)
	}
	if options.PRoot != nil {
		c := dependencyComponent(*options.PRoot)
		c.Path = options.PRootPath
		bill.Components = append(bill.Components, c)
		bill.Root.DependsOn = append(bill.Root.DependsOn, c.Ref)
	}
	return bill, nil
}

// storeComponent is a store path. Who signed it is left out: the bill says what is in the image, and the same closure has the
// same bill under whichever keys it was accepted.
func storeComponent(node *closure.Node) sbom.Component {
	name, version, output := sbom.ParseName(node.Path.Name())
	c := sbom.Component{
		Ref: node.Path.String(), Name: name, Version: version, Output: output, SHA256: hex.EncodeToString(node.NarHash[:]),
		PURL: sbom.NixPURL(name, version, output, node.Path.HashPart()), CPEs: sbom.CPEs(name, version),
		Properties: map[string]string{
			"nix:output_path": node.Path.String(), "nix:nar_hash": "sha256:" + storepath.Encode32(node.NarHash[:]),
			"nix:nar_size": fmt.Sprint(node.NarSize),
		},
	}
	if output != "" {
		c.Properties["nix:output"] = output
	}
	for _, reference := range node.References {
		c.DependsOn = append(c.DependsOn, reference.String())
	}
	return c
}

// dependencyComponent is something that buildpack.toml pins.
func dependencyComponent(d libpak.BuildModuleDependency) sbom.Component {
	c := sbom.Component{
		Ref: d.ID + "@" + d.Version, Name: d.Name, Version: d.Version, SHA256: d.GetChecksum().Hash(), CPEs: d.CPEs,
		Application: true, Properties: map[string]string{"uri": d.URI},
	}
	if len(d.PURLS) > 0 {
		c.PURL = d.PURLS[0]
	}
	for _, license := range d.Licenses {
		c.Licenses = append(c.Licenses, license.Type)
	}
	return c
}

// writeBills writes the image's bill of materials, and the build's own where a toolchain was used, which is not in the
// image.
func (in *inputs) writeBills(c *contents, launchLayers []libcnb.Layer) error {
	options := billOptions{
		Version: in.version, PlaceOf: c.linkTo, Licenses: c.Roots.Licenses, Epoch: strings.TrimSpace(os.Getenv("SOURCE_DATE_EPOCH")),
		System: in.config.System, Launcher: in.launcher,
		LauncherPath: path.Join(in.layers.Path, launchlayer.Launcher, "bin", launch.ProcessProgramName),
		PRootPath:    path.Join(in.layers.Path, prootLayer, "bin/proot"),
	}
	if slices.ContainsFunc(launchLayers, func(l libcnb.Layer) bool { return l.Name == prootLayer }) {
		dependency, err := in.dependencies.find(prootLayer)
		if err != nil {
			return err
		}
		options.PRoot = &dependency
	}
	bill, err := billOf(c.Graph, options)
	if err != nil {
		return err
	}
	for _, format := range billFormats() {
		if err := bill.Write(format.MediaType(), in.layers.LaunchSBOMPath(format)); err != nil {
			return err
		}
	}
	if in.toolchain.opened == nil {
		return nil
	}
	nix, err := in.dependencies.find("nix")
	if err != nil {
		return err
	}
	component := dependencyComponent(nix)
	built := sbom.Bill{
		Root: sbom.Component{Ref: "build", Name: launchlayer.BuildpackID, Version: in.version, DependsOn: []string{component.Ref}},
		Tool: launchlayer.BuildpackID, ToolVersion: in.version, Created: bill.Created, Components: []sbom.Component{component},
	}
	for _, format := range billFormats() {
		if err := built.Write(format.MediaType(), in.layers.BuildSBOMPath(format)); err != nil {
			return err
		}
	}
	return nil
}

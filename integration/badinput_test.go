package integration_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"
	"golang.org/x/sys/unix"

	"github.com/nixproot/nix-hydra-buildpack/integration"
	"github.com/nixproot/nix-hydra-buildpack/integration/rig"
	"github.com/nixproot/nix-hydra-buildpack/internal/busy"
)

// TestBadInput gives builds what they cannot use: each is refused in words that say what to change, and what was kept
// for the next build is unharmed.
func TestBadInput(t *testing.T) {
	suite := spec.New("bad input", spec.Report(report.Terminal{}), spec.Sequential())
	suite("source", testBadSource)
	suite("caches", testBadCaches)
	suite("settings", testBadSettings)
	suite.Run(t)
}

// shop is an app whose version is the only thing that differs.
func shop(version string) map[string]string {
	return map[string]string{
		"shell.nix": pinned + `{
  shop = programs "shop-` + version + `" { shop = "echo shop ` + version + `"; };
  helper = programs "helper" { helper = "echo helper"; };
}
`,
		"Procfile": "web: run_proot.sh shop\n",
	}
}

// deployment has deployed an app once, and sees whether that still stands after something went wrong.
type deployment struct {
	t    *testing.T
	app  *deployable
	bare *integration.Bare
}

func newDeployment(t *testing.T) *deployment {
	RegisterTestingT(t)
	k := &deployment{t: t, app: source(t, shop("1.0")), bare: bare(t, "b")}
	for name, value := range k.app.env(realParts(t), "BP_NIX_ATTRS", "shop") {
		k.bare.Env[name] = value
	}
	k.builds(k.app.source, nil)
	return k
}

// builds deploys a source.
func (k *deployment) builds(source string, env map[string]string) *integration.Outcome {
	k.t.Helper()
	o, err := k.bare.Build(context.Background(), source, env)
	must(err)
	Expect(o.Status).WithOffset(1).To(Equal(0), o.Log)
	return o
}

// refuses expects a build to fail with all of these words, and the app that was deployed before to be deployed again
// without a single request.
func (k *deployment) refuses(source string, env map[string]string, words ...string) *integration.Outcome {
	k.t.Helper()
	o, err := k.bare.Build(context.Background(), source, env)
	must(err)
	Expect(o.Status).WithOffset(1).NotTo(Equal(0), o.Log)
	for _, word := range words {
		Expect(o.Log).WithOffset(1).To(ContainSubstring(word))
	}
	Expect(o.Log).WithOffset(1).NotTo(ContainSubstring("panic"))
	k.stands()
	return o
}

// stands deploys the first app again, which costs nothing.
func (k *deployment) stands() {
	k.t.Helper()
	k.app.server.Reset()
	o := k.builds(k.app.source, nil)
	Expect(o.Log).To(MatchRegexp(`Closure layers: 0 of \d+ changed`))
	Expect(k.app.server.Requests()).To(BeEmpty())
}

// changed is the deployed app's source with a file that is another.
func (k *deployment) changed(name, text string) string {
	dir := k.t.TempDir()
	must(os.CopyFS(dir, os.DirFS(k.app.source)))
	must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	return dir
}

// revisionless wants a build to succeed on a source whose .git is not to be read, which one line says.
func (k *deployment) revisionless(prepare func(app string) error) {
	k.t.Helper()
	k.bare.Prepare = prepare
	defer func() { k.bare.Prepare = nil }()
	o := k.builds(k.app.source, nil)
	Expect(o.Log).WithOffset(1).To(ContainSubstring("The source's .git cannot be read, and so its revision is not known: "))
	Expect(filepath.Join(k.bare.App(), ".git")).NotTo(BeAnExistingFile())
	Expect(k.bare.Start(context.Background(), "shop")).To(Equal("shop 1.0\n"))
}

func testBadSource(t *testing.T, _ spec.G, it spec.S) {
	var k *deployment
	it.Before(func() { k = newDeployment(t) })

	it("builds a source whose .git waits, inflates or branches without end, without a revision", func() {
		const id = "0123456789012345678901234567890123456789"
		for _, name := range []string{".git", ".git/HEAD", ".git/config"} {
			k.revisionless(func(app string) error {
				file := filepath.Join(app, name)
				return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), unix.Mkfifo(file, 0o644))
			})
		}
		k.revisionless(func(app string) error {
			object := filepath.Join(app, ".git/objects", id[:2], id[2:])
			err := errors.Join(os.MkdirAll(filepath.Dir(object), 0o755),
				os.WriteFile(filepath.Join(app, ".git/HEAD"), []byte(id), 0o644))
			file, createErr := os.Create(object)
			if err = errors.Join(err, createErr); err != nil {
				return err
			}
			z := zlib.NewWriter(file)
			_, err = z.Write(bytes.Repeat([]byte("x"), 256<<20))
			return errors.Join(err, z.Close(), file.Close())
		})
		k.revisionless(func(app string) error {
			return integration.WriteTree(app, map[string]string{
				".git/HEAD": id, ".git/objects/info/alternates": strings.Repeat(".\n", 3000),
			})
		})
	})

	it("does not read a source of which the settings name the store paths", func() {
		k.bare.Prepare = func(app string) error {
			return errors.Join(unix.Mkfifo(filepath.Join(app, "fifo.nix"), 0o644), unix.Mkfifo(filepath.Join(app, ".git"), 0o644))
		}
		defer func() { k.bare.Prepare = nil }()
		i := slices.IndexFunc(k.app.paths, func(p string) bool { return strings.Contains(p, "shop") })
		k.builds(k.app.source, map[string]string{"BP_NIX_STORE_PATH": k.app.paths[i]})
		Expect(k.bare.Start(context.Background(), "shop")).To(Equal("shop 1.0\n"))
		Expect(filepath.Join(k.bare.App(), "fifo.nix")).NotTo(BeAnExistingFile())
	})

	it("shows the line of a Procfile that does not parse, with a caret", func() {
		k.refuses(k.changed("Procfile", "web: run_proot.sh shop\nworker: run_proot.sh 'shop\n"), nil,
			"Procfile line 2, column 22", "    worker: run_proot.sh 'shop\n", "\n"+strings.Repeat(" ", 2+4+21)+"^")
		k.refuses(k.changed("Procfile", "just words\n"), nil, "Procfile line 1", "no colon", " just words\n", "^") // the line above it is as wide as a line may be
	})

	it("shows Nix's own message and the place in the user's file of an expression that does not evaluate", func() {
		k.refuses(k.changed("shell.nix", "{\n  shop = 1 + \"a\";\n}\n"), nil, "shell.nix:2:", "cannot add a string to an integer")
		k.refuses(k.changed("shell.nix", "{\n  shop = ;\n}\n"), nil, "shell.nix:2:", "syntax error")
		k.refuses(k.changed("shell.nix", "{ shop = import ./missing.nix; }\n"), nil, "missing.nix")
		k.refuses(k.changed("shell.nix", "{ shop = builtins.throw \"not for you\"; }\n"), nil, "not for you")
	})

	it("names the attributes that there are when one is asked for that is not", func() {
		k.refuses(k.app.source, map[string]string{"BP_NIX_ATTRS": "ship"}, `"ship"`, "helper, shop", "BP_NIX_ATTRS")
	})

	it("names the caches that were asked when none has an output, and compiles nothing", func() {
		second, err := rig.Serve(t.TempDir(), rig.ServeOptions{})
		must(err)
		defer second.Close()
		files := shop("never-built")
		k.refuses(k.changed("shell.nix", files["shell.nix"]), map[string]string{"NIX_EXTRA_BINARY_CACHE": second.URL},
			"shop-never-built", k.app.server.URL, second.URL)
	})
}

func testBadCaches(t *testing.T, _ spec.G, it spec.S) {
	var (
		k    *deployment
		next *deployable
		env  map[string]string
	)
	it.Before(func() {
		k = newDeployment(t)
		next = source(t, shop("2.0"))
		env = map[string]string{"BP_NIX_SUBSTITUTERS": next.server.URL}
	})
	works := func() {
		t.Helper()
		o := k.builds(next.source, env)
		Expect(o.Log).To(MatchRegexp(`Store paths: [1-9]\d* paths? \(.*\) reused, 1 path`))
		Expect(k.bare.Start(context.Background(), "shop")).To(Equal("shop 2.0\n"))
	}

	it("refuses a NAR that was altered or cut short, names cache and path, and takes it when it is whole", func() {
		for _, fault := range []rig.Fault{rig.Altered, rig.Truncated} {
			next.server.SetFault(onNARs(fault))
			k.refuses(next.source, env, "shop-2.0", next.server.URL)
		}
		next.server.SetFault(nil)
		works()
	})

	it("takes the next cache's NAR when one alters its own", func() {
		twin, err := rig.Serve(next.cache, rig.ServeOptions{})
		must(err)
		defer twin.Close()
		next.server.SetFault(onNARs(rig.Altered))
		env["BP_NIX_SUBSTITUTERS"] = next.server.URL + " " + twin.URL
		works()
	})

	it("refuses a path with a bad signature, and one of a key that is not trusted, with the line to add", func() {
		forged := t.TempDir()
		must(os.CopyFS(forged, os.DirFS(next.cache)))
		name := filepath.Join(forged, strings.SplitN(filepath.Base(pathOf(next, "shop-2.0")), "-", 2)[0]+".narinfo")
		text, err := os.ReadFile(name)
		must(err)
		before, signature, found := strings.Cut(string(text), "\nSig: "+realParts(t).key.Name+":")
		Expect(found).To(BeTrue())
		swapped := map[byte]string{'A': "B"}[signature[0]]
		if swapped == "" {
			swapped = "A"
		}
		must(os.WriteFile(name, []byte(before+"\nSig: "+realParts(t).key.Name+":"+swapped+signature[1:]), 0o644))
		server, err := rig.Serve(forged, rig.ServeOptions{})
		must(err)
		defer server.Close()
		k.refuses(next.source, map[string]string{"BP_NIX_SUBSTITUTERS": server.URL},
			"shop-2.0", server.URL, "does not verify")

		stranger, err := realParts(t).rig.Key(t.Context(), "stranger-1")
		must(err)
		k.refuses(next.source, map[string]string{"BP_NIX_SUBSTITUTERS": next.server.URL, "BP_NIX_TRUSTED_PUBLIC_KEYS": stranger.Public},
			"shop-2.0", next.server.URL, "not trusted", "BP_NIX_TRUSTED_PUBLIC_KEYS", realParts(t).key.Name+":")
		k.refuses(next.source, map[string]string{"BP_NIX_SUBSTITUTERS": next.server.URL, "BP_NIX_TRUSTED_PUBLIC_KEYS": ""},
			"BP_NIX_TRUSTED_PUBLIC_KEYS", "BP_NIX_REQUIRE_SIGS=false")
		works()
	})

	it("does without signatures by BP_NIX_REQUIRE_SIGS=false alone", func() {
		k.refuses(next.source, map[string]string{"BP_NIX_REQUIRE_SIGS": "no, thanks"}, "BP_NIX_REQUIRE_SIGS", "true or false")
		env["BP_NIX_TRUSTED_PUBLIC_KEYS"], env["BP_NIX_REQUIRE_SIGS"] = "", "false"
		works()
	})

	it("asks the next cache within seconds when one does not answer, and says so once", func() {
		silent := silence(t)
		env["BP_NIX_SUBSTITUTERS"] = silent + " " + next.server.URL
		start := time.Now()
		works()
		Expect(time.Since(start)).To(BeNumerically("<", busy.Limit(20*time.Second)))
	})

	it("gives up within a minute when no cache answers, and names them all", func() {
		silent, gone := silence(t), closedPort()
		start := time.Now()
		k.refuses(next.source, map[string]string{"BP_NIX_SUBSTITUTERS": silent + " " + gone}, silent, gone, "proxy")
		Expect(time.Since(start)).To(BeNumerically("<", busy.Limit(time.Minute)))
	})

	it("refuses a cache of another store, and a page that asks for a login, in their own words", func() {
		other, err := os.MkdirTemp("", "other-")
		must(err)
		defer os.RemoveAll(other)
		must(os.WriteFile(filepath.Join(other, "nix-cache-info"), []byte("StoreDir: /gnu/store\n"), 0o644))
		k.refuses(next.source, map[string]string{"BP_NIX_SUBSTITUTERS": "file://" + other}, "/gnu/store", "/nix/store")
		next.server.SetFault(func(string, int) rig.Fault { return rig.Login })
		k.refuses(next.source, env, next.server.URL)
		next.server.SetFault(nil)
		works()
	})

	it("asks all the caches of NIX_EXTRA_BINARY_CACHE beside the others", func() {
		third, err := rig.Serve(t.TempDir(), rig.ServeOptions{})
		must(err)
		defer third.Close()
		env["BP_NIX_SUBSTITUTERS"], env["NIX_EXTRA_BINARY_CACHE"] = k.app.server.URL, third.URL+" "+next.server.URL
		works()
	})
}

func testBadSettings(t *testing.T, _ spec.G, it spec.S) {
	it("says why it did not pass, and which file it took and how to choose another", func() {
		k := newDeployment(t)
		o, err := k.bare.Build(context.Background(), t.TempDir(), nil)
		must(err)
		Expect(o.Status).To(Equal(100))
		Expect(o.Log).To(SatisfyAll(ContainSubstring("deploy.nix"), ContainSubstring("flake.nix"),
			ContainSubstring("shell.nix"), ContainSubstring("default.nix"), ContainSubstring("BP_NIX_FILE"),
			ContainSubstring("BP_NIX_STORE_PATH")))
		o = k.builds(k.changed("default.nix", "{ }"), nil)
		Expect(o.Log).To(SatisfyAll(ContainSubstring("shell.nix found"), ContainSubstring("BP_NIX_FILE")))
		k.builds(k.app.source, nil)
		k.refuses(k.app.source, map[string]string{"BP_NIX_FILE": "nowhere.nix"}, "nowhere.nix")
	})

	it("refuses settings that cannot be meant", func() {
		k := newDeployment(t)
		k.refuses(k.app.source, map[string]string{"BP_NIX_STORE_PATH": "/nix/store/nonsense"}, "BP_NIX_STORE_PATH")
		k.refuses(k.app.source, map[string]string{"BP_NIX_ENGINE": "warp"}, "BP_NIX_ENGINE", "relocate")
		k.refuses(k.app.source, map[string]string{"BP_INCLUDE_FILES": "[a"}, "BP_INCLUDE_FILES", "[a")
		k.refuses(k.app.source, map[string]string{"BP_NIX_ATTR": "shop"}, "did you mean BP_NIX_ATTRS?")
	})

	it("refuses a store path whose programs are for another machine than the image, which leaves the last image as it is", func() {
		k := newDeployment(t)
		ours, other := "x86_64-linux", "aarch64-linux"
		foreign := *k.bare.Buildpack
		if foreign.Arch = "arm64"; k.bare.Buildpack.Arch == "arm64" {
			foreign.Arch, ours, other = "amd64", other, ours
		}
		own := k.bare.Buildpack
		k.bare.Buildpack = &foreign
		o, err := k.bare.Build(context.Background(), k.app.source, map[string]string{"BP_NIX_STORE_PATH": pathOf(k.app, "shop-1.0")})
		must(err)
		Expect(o.Status).NotTo(BeZero(), o.Log)
		Expect(o.Log).To(And(MatchRegexp("checking programs: .*-shop-1.0/bin/shop, by .*, is for "+ours+", and the image is for "+other),
			ContainSubstring("name the store path that was built for "+other)))
		k.bare.Buildpack = own
		k.stands()
	})

	it("names the settings that do nothing beside another", func() {
		k := newDeployment(t)
		o := k.builds(k.app.source, map[string]string{"BP_NIX_STORE_PATH": pathOf(k.app, "shop-1.0"), "BP_NIX_FILE": "shell.nix"})
		Expect(o.Log).To(ContainSubstring("Warning: as BP_NIX_STORE_PATH is set, these settings do nothing: BP_NIX_FILE, BP_NIX_ATTRS"))
	})
}

// onNARs has every NAR suffer from a fault, whenever it is asked for.
func onNARs(fault rig.Fault) func(string, int) rig.Fault {
	return func(path string, _ int) rig.Fault {
		if strings.Contains(path, "/nar/") {
			return fault
		}
		return rig.NoFault
	}
}

// pathOf is the store path of that name.
func pathOf(d *deployable, name string) string {
	for _, p := range d.paths {
		if strings.HasSuffix(p, "-"+name) {
			return p
		}
	}
	return ""
}

// silence is the address of somebody who takes connections and never says a word.
func silence(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String()
}

// closedPort is an address where nobody listens.
func closedPort() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	must(listener.Close())
	return "http://" + listener.Addr().String()
}

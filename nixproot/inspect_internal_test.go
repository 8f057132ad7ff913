package nixproot

import (
	"bytes"
	"context"
	"encoding/json"
	"html/template"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"
	"golang.org/x/net/html"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/image/lifecycle"
	"github.com/nixproot/nix-hydra-buildpack/inspect"
	"github.com/nixproot/nix-hydra-buildpack/launch"
	"github.com/nixproot/nix-hydra-buildpack/launch/launchlayer"
	"github.com/nixproot/nix-hydra-buildpack/verify/imagetest"
)

func TestInspect(t *testing.T) {
	suite := spec.New("inspect")
	suite("Command", testInspectCommand)
	suite("Page", testInspectPage)
	suite.Run(t)
}

func testInspectCommand(t *testing.T, _ spec.G, it spec.S) {
	var f *imagetest.Image
	var name string
	it.Before(func() {
		RegisterTestingT(t)
		f = imagetest.New(t, launch.EngineRelocate)
		name = filepath.Join(t.TempDir(), "image.tar")
		f.Write(name, nil)
	})
	run := func(args ...string) (int, string) {
		var out bytes.Buffer
		return Inspect(args, &out, &out), out.String()
	}

	it("shows what is in an image, by path and by layer, and who signed it", func() {
		code, out := run(name)
		Expect(code).To(Equal(0), out)
		Expect(out).To(And(
			MatchRegexp(`(?m)^engine +relocate`), ContainSubstring("root       "+f.App.String()),
			MatchRegexp(`(?m)^process +web: .*nix-hydra-launch --process run_proot.sh app$`),
			MatchRegexp(`(?m)^ +1 .* run image`), MatchRegexp(`(?m)nixproot/nix-hydra:view$`),
			ContainSubstring(f.Lib.Base()+" (forged-1)"), ContainSubstring("3 store paths"), Not(ContainSubstring("problem")),
			MatchRegexp(`(?m)^size +[1-9].* in \d+ layers; [1-9]`),
		))
	})

	it("gives the same to programs", func() {
		code, out := run("--json", name)
		Expect(code).To(Equal(0), out)
		var r inspect.Report
		Expect(json.Unmarshal([]byte(out), &r)).To(Succeed())
		Expect(r.Paths).To(HaveLen(3))
		Expect(r.Roots).To(Equal([]string{f.App.String()}))
		Expect(r.Buildpack).To(Equal("nixproot/nix-hydra 0.1.0"))
		paths, size := 0, int64(0)
		for _, l := range r.Layers {
			paths, size = paths+l.Paths, size+l.Size
		}
		Expect(paths).To(Equal(3))
		Expect(r.Size).To(And(Equal(size), BeNumerically(">", r.ClosureSize())))
	})

	it("says which cache each path is said to have come from, and nothing where nobody says", func() {
		_, out := run(name)
		Expect(out).NotTo(MatchRegexp(`(?m)^from `))
		label := func(text string) {
			f.Write(name, func(f *imagetest.Image) { f.Config.Labels[closure.CachesLabel] = text })
		}
		label(`[{"url":"https://me:sesame@a.example.org"},{"url":"https://b.example.org/\u202e","paths":["` + f.Lib.HashPart() + `"]}]`)
		code, out := run(name)
		Expect(code).To(Equal(0), out)
		Expect(out).To(ContainSubstring("from       https://a.example.org: 2 store paths\nfrom       https://b.example.org/%E2%80%AE: 1 store path\n"))
		_, out = run("--json", name)
		var r inspect.Report
		Expect(json.Unmarshal([]byte(out), &r)).To(Succeed())
		for _, p := range r.Paths {
			Expect(p.Cache == "https://a.example.org").To(Equal(p.Path != f.Lib), p.Path.String())
		}
		_, out = run("--html", name)
		Expect(out).To(And(ContainSubstring("<td>https://a.example.org</td>"), Not(ContainSubstring("sesame"))))
		label("x")
		code, out = run(name)
		Expect(code).To(Equal(0), out)
		Expect(out).To(ContainSubstring("problem    reading the label " + closure.CachesLabel))
	})

	it("says why a path is there", func() {
		code, out := run("why", name, "lib")
		Expect(code).To(Equal(0), out)
		Expect(out).To(Equal(f.App.String() + "\n└── " + f.Lib.String() + "\nneeded directly by 1: " + f.App.Base() + "\n"))
		code, after := run(name, "why", "lib")
		Expect(code).To(Equal(0), after)
		Expect(after).To(Equal(out))
		code, out = run("why", name, f.App.String()+"/bin/app", "--json")
		Expect(code).To(Equal(0), out)
		Expect(out).To(ContainSubstring(`"chain": [`))
		view, err := closure.ViewOf(imagetest.View)
		Expect(err).NotTo(HaveOccurred())
		for _, place := range []string{imagetest.View, path.Dir(imagetest.View) + "/closure-0001-aa"} {
			code, out = run("why", name, place+"/"+closure.BaseName(f.App, view)+"/bin/app", "--json")
			Expect(code).To(Equal(0), out)
			Expect(out).To(ContainSubstring(`"path": "`+f.App.String()+`"`), "as a container has it")
		}
		code, out = run("why", name, "no-such-thing")
		Expect(code).To(Equal(2))
		Expect(out).To(ContainSubstring(`no store path that is called "no-such-thing"`))
		code, out = run("why", name, "/workspace/Procfile")
		Expect(code).To(Equal(2))
		Expect(out).To(Equal("inspect: \"/workspace/Procfile\" is in no store path of the image\n"))
	})

	it("says what changed against another image", func() {
		other := filepath.Join(t.TempDir(), "other.tar")
		f.Write(other, func(f *imagetest.Image) {
			f.SetProcess(lifecycle.Process{Type: "web", Command: []any{"/other"}, Direct: true, BuildpackID: launchlayer.BuildpackID}, true)
			f.Relabel = true
		})
		code, out := run("diff", name, other)
		Expect(code).To(Equal(0), out)
		Expect(out).To(And(ContainSubstring("store paths: 3 the same, 0 changed, 0 added, 0 removed"),
			MatchRegexp(`layers: \d+ shared, 1 new`), MatchRegexp(`~ process web: .* -> /other`)))
	})

	it("has verify as one of its verbs", func() {
		code, out := run("verify", "--key", f.Key, name)
		Expect(code).To(Equal(1)) // these tests have no launcher beside them
		Expect(out).To(And(ContainSubstring("3 store paths: 3 intact and signed"), ContainSubstring("UNKNOWN ")))
	})

	it("shows what a stranger wrote as text and nothing else", func() {
		f.Write(name, func(f *imagetest.Image) {
			f.SetProcess(lifecycle.Process{Type: "web", Command: []any{"\x1b]0;evil\x07\u202e<script>alert(1)</script>"}, Direct: true,
				BuildpackID: launchlayer.BuildpackID}, true)
			f.Label = func(s string) string { return strings.Replace(s, `"reference":"run"`, `"reference":"\u001b[31m"`, 1) }
		})
		code, out := run(name)
		Expect(code).To(Equal(0), out)
		Expect(out).NotTo(MatchRegexp("[\x1b\x07\u202e]"))
		code, out = run("--html", name)
		Expect(code).To(Equal(0), out)
		Expect(out).NotTo(Or(ContainSubstring("<script"), MatchRegexp("[\x1b\x07\u202e]")))
	})

	it("hides logins in commands, and leaves JSON and HTML whole", func() {
		const shell = `curl "https://me:sesame@example.org/" "http://example.org/?key=sesame" && echo`
		f.Write(name, func(f *imagetest.Image) {
			f.SetProcess(lifecycle.Process{Type: "web", Command: []any{shell}, Direct: true, BuildpackID: launchlayer.BuildpackID}, true)
		})
		const shown = `curl "https://example.org/" "http://example.org/?key=hidden" && echo`
		dir := t.TempDir()
		run := func(args ...string) string {
			command := exec.Command(os.Args[0], append(args, name)...)
			command.Dir, command.Env = dir, []string{"NIXPROOT_TEST_PROGRAM=inspect"}
			out, err := command.Output()
			Expect(err).NotTo(HaveOccurred(), "%s", out)
			return string(out)
		}
		Expect(run()).To(ContainSubstring(shown))
		var r inspect.Report
		Expect(json.Unmarshal([]byte(run("--json")), &r)).To(Succeed())
		Expect(r.Processes).To(ContainElement(inspect.Process{Type: "web", Command: shown}))
		Expect(run("--html")).To(ContainSubstring("<code>" + template.HTMLEscapeString(shown) + "</code>"))
	})

	it("says what is wrong beside what it shows, which is mostly a file or another program's input", func() {
		for _, c := range []struct {
			command func(args []string, out, errs io.Writer) int
			args    []string
			says    string
		}{
			{Inspect, []string{"--html", "/dev/null"}, "inspect: "},
			{Inspect, []string{"diff", "--json", name, "/dev/null"}, "inspect: "},
			{Inspect, []string{"--htlm", name}, "flag provided but not defined: -htlm"},
			{Inspect, nil, "usage: inspect"},
			{Verify, []string{"/dev/null"}, "verify: "},
			{Inspect, []string{"verify"}, "usage: verify"},
			{Inspect, []string{"why", name}, "inspect: why takes an image and a path\nusage: "},
			{Inspect, []string{"why"}, "inspect: why takes an image and a path\nusage: "},
			{Inspect, []string{name, "diff", "--json"}, "inspect: diff takes two images\nusage: "},
			{Inspect, []string{"--html", "--json", name}, "inspect: --html and --json do not go together\nusage: "},
			{Inspect, []string{"diff", "--html", name, name}, "inspect: --html is of one image, without diff\nusage: "},
			{Inspect, []string{name, name}, "inspect: it takes one image, and has 2\nusage: "},
			{Inspect, []string{"--json"}, "inspect: it takes one image, and has 0\nusage: "},
			{Verify, []string{name, name}, "verify: it takes one image, and has 2\nusage: "},
			{surveyNothing, []string{"https://cache.example.org"}, "survey: it takes a binary cache, and a store path at least\nusage: "},
			{surveyNothing, []string{"--json", "file:///none", "-"}, "survey: "},
		} {
			var out, errs bytes.Buffer
			Expect(c.command(c.args, &out, &errs)).To(Equal(2))
			Expect(errs.String()).To(HavePrefix(c.says))
			Expect(out.String()).To(BeEmpty(), "%v", c.args)
		}
		for _, command := range []func([]string, io.Writer, io.Writer) int{Inspect, Verify, surveyNothing} {
			var out, errs bytes.Buffer
			Expect(command([]string{"--help"}, &out, &errs)).To(Equal(0))
			Expect(out.String()).To(And(HavePrefix("usage: "), ContainSubstring("\nExit status: 0 ")))
			Expect(errs.String()).To(BeEmpty())
		}
	})

	it("shows its usage where it is asked otherwise, and says what it cannot read", func() {
		code, out := run()
		Expect(code).To(Equal(2))
		Expect(out).To(HavePrefix("usage: inspect"))
		code, out = run("--help")
		Expect(code).To(Equal(0), out)
		for _, name := range []string{t.TempDir(), "/dev/null", filepath.Join(t.TempDir(), "none")} {
			code, out := run(name)
			Expect(code).To(Equal(2))
			Expect(out).To(HavePrefix("inspect: "))
		}
	})
}

func surveyNothing(args []string, out, errs io.Writer) int {
	return Survey(args, strings.NewReader(""), out, errs)
}

func testInspectPage(t *testing.T, _ spec.G, it spec.S) {
	var page []byte
	it.Before(func() {
		RegisterTestingT(t)
		f := imagetest.New(t, launch.EngineRelocate)
		name := filepath.Join(t.TempDir(), "image.tar")
		f.Write(name, nil)
		var out bytes.Buffer
		Expect(Inspect([]string{"--html", name}, &out, &out)).To(Equal(0), out.String())
		page = out.Bytes()
	})

	it("has everything in itself, and says it to keyboards and screen readers", func() {
		Expect(string(page)).NotTo(MatchRegexp(`(?i)\b(src|srcset)=|@import|url\(|https?://`))
		root, err := html.Parse(bytes.NewReader(page))
		Expect(err).NotTo(HaveOccurred())
		ids, links, scopes, captions, lang := map[string]bool{}, []string{}, 0, 0, ""
		for n := range root.Descendants() {
			attributes := map[string]string{}
			for _, a := range n.Attr {
				attributes[a.Key] = a.Val
			}
			if id := attributes["id"]; id != "" {
				Expect(ids[id]).To(BeFalse(), id)
				ids[id] = true
			}
			switch n.Data {
			case "html":
				lang = attributes["lang"]
			case "a":
				links = append(links, attributes["href"])
				if n.Parent.Data == "svg" {
					Expect(attributes["aria-label"]).To(MatchRegexp(`^[a-z0-9]{32}-\w+, .*, .* of the closure, in layer closure-`))
				}
			case "th":
				Expect(attributes["scope"]).NotTo(BeEmpty())
				scopes++
			case "caption":
				captions++
			}
		}
		Expect(lang).To(Equal("en"))
		Expect(captions).To(Equal(2))
		Expect(scopes).To(BeNumerically(">", 11))
		Expect(len(links)).To(BeNumerically(">=", 4))
		for _, link := range links {
			Expect(ids).To(HaveKey(strings.TrimPrefix(link, "#")))
		}
	})

	it("opens in a browser", func() {
		browser := findBrowser(t)
		dir := t.TempDir()
		name := filepath.Join(dir, "page.html")
		Expect(os.WriteFile(name, page, 0o644)).To(Succeed())
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		open := func(args ...string) string {
			var out, log bytes.Buffer
			command := exec.CommandContext(ctx, browser, append(browserFlags(dir), args...)...)
			command.Stdout, command.Stderr, command.WaitDelay = &out, &log, time.Second
			command.Env = append(os.Environ(), "HOME="+dir)
			Expect(command.Run()).To(Succeed(), log.String())
			Expect(log.String()).NotTo(ContainSubstring("CONSOLE"))
			return out.String()
		}
		shown := open("--dump-dom", "file://"+name)
		Expect(shown).To(And(ContainSubstring("Store paths, the largest first"), ContainSubstring("<rect")))
		open("--screenshot="+filepath.Join(dir, "page.png"), "file://"+name+"#p0")
		picture, err := os.Stat(filepath.Join(dir, "page.png"))
		Expect(err).NotTo(HaveOccurred())
		Expect(picture.Size()).To(BeNumerically(">", 10_000))
		if keep := os.Getenv("INSPECT_PICTURE"); keep != "" {
			raw, err := os.ReadFile(filepath.Join(dir, "page.png"))
			Expect(err).NotTo(HaveOccurred())
			Expect(os.WriteFile(keep, raw, 0o644)).To(Succeed())
		}
	})

	it("is used by keyboard and heard by a screen reader in a browser, light or dark, wide or narrow", func() {
		name := filepath.Join(t.TempDir(), "page.html")
		Expect(os.WriteFile(name, page, 0o644)).To(Succeed())
		tab := openTab(t, name)

		const focus = "document.activeElement"
		tab.press(t, "Tab", "", 9)
		Expect(tab.ask(t, focus+".textContent")).To(Equal("Skip to the table of store paths"))
		Expect(tab.ask(t, focus+".getBoundingClientRect().left >= 0")).To(Equal("true"), "it is seen")
		var reached []string
		for range 3 {
			tab.press(t, "Tab", "", 9)
			reached = append(reached, tab.ask(t, focus+".getAttribute('aria-label')"))
			Expect(tab.ask(t, "getComputedStyle("+focus+".querySelector('rect')).strokeWidth")).To(Equal("4px"), "it is seen")
		}
		row := tab.ask(t, focus+".getAttribute('href')")
		tab.press(t, "Enter", "\r", 13)
		Expect(tab.ask(t, "location.hash")).To(Equal(row))
		Expect(tab.ask(t, "document.querySelector(':target').id")).To(Equal(row[1:]))
		Expect(tab.ask(t, focus+".id")).To(Equal(row[1:]), "the keyboard goes on from the row")

		said := tab.names(t)
		Expect(said["link"]).To(Equal(append([]string{"Skip to the table of store paths"}, reached...)))
		Expect(said["table"]).To(Equal([]string{"Store paths, the largest first", "Layers"}))
		Expect(said["heading"]).To(HaveLen(2))
		Expect(said["group"]).To(Equal([]string{"Treemap"}))
		Expect(said["region"]).To(Equal([]string{"Store paths", "Layers"}))
		Expect(said["main"]).To(HaveLen(1))
		Expect(said["columnheader"]).To(HaveLen(11))
		Expect(len(said["rowheader"])).To(BeNumerically(">", 3))

		for _, scheme := range []string{"light", "dark"} {
			tab.call(t, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
				{"name": "prefers-color-scheme", "value": scheme}}}, nil)
			Expect(tab.contrast(t, "main h1", "body")).To(BeNumerically(">=", 4.5), scheme)
			Expect(tab.contrast(t, "a.skip", "body")).To(BeNumerically(">=", 4.5), scheme)
		}
		tab.call(t, "Emulation.setDeviceMetricsOverride", map[string]any{
			"width": 320, "height": 600, "deviceScaleFactor": 1, "mobile": false}, nil)
		Expect(tab.ask(t, "document.querySelector('h1').scrollWidth <= 320")).To(Equal("true"))
		Expect(tab.ask(t, "document.documentElement.scrollWidth <= innerWidth")).To(Equal("true"), "only tables are scrolled sideways")
		tab.press(t, "Tab", "", 9) // on from the path's row
		Expect(tab.ask(t, focus+".getAttribute('aria-label')")).To(Equal("Layers"))
		tab.press(t, "ArrowRight", "", 39)
		Eventually(func() string { return tab.ask(t, focus+".scrollLeft > 0") }).Should(Equal("true"), "by keyboard, too")
	})
}

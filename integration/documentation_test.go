package integration_test

import (
	"regexp"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/integration/pages"
)

// told says what becomes of a block of code in the documentation: it is run, or why no test can.
type told struct {
	begins string // the block's first line, or its start and "…", or the name of the file that it is
	run    func(*reader, pages.Block)
	reason string
}

// documentation is every block of code of every page, in the order of the page. A block that is not here is a failure,
// as is one here that no page has.
var documentation = map[string][]told{
	"README.md": {
		{begins: "deploy.nix", run: (*reader).writes},
		{begins: "server.py", run: (*reader).writes},
		{begins: "Procfile", run: (*reader).writes},
		{begins: "project.toml", run: (*reader).writes},
		{begins: "pack build first --builder heroku/builder:24 && docker run --rm -e PORT=8080 -p 8080:8080 first",
			run: answers("Hello from a closure\n")},
		{begins: "scripts/package --output build/buildpack", run: inCheckout(answers("Hello from a closure\n"))},
		{begins: "docker save first -o first.tar", run: inCheckout((*reader).looks)},
	},
	"docs/architecture.md": {
		{begins: "app dir ──detect──▶ a Nix expression, or settings that name store paths?", reason: "a drawing"},
	},
	"docs/benchmarks.md": {
		{begins: "scripts/bench [launch|…",
			run: inCheckout(isUsageOf("scripts/bench --help"))},
	},
	"docs/composition.md": {
		{begins: "[_]", run: (*reader).namesKnownSettings},
		{begins: "[_]", run: (*reader).namesKnownSettings},
		{begins: "[_]", run: (*reader).namesKnownSettings},
	},
	"docs/engines.md": {
		{begins: `pkgs.buildEnv { name = "app"; paths = [ app pkgs.cacert pkgs.tzdata pkgs.glibcLocales pkgs.bash ]; }`,
			run: evaluates(`pkgs: app: `, `{ buildEnv = a: builtins.length a.paths; cacert = 1; tzdata = 1; glibcLocales = 1; bash = 1; } 1`, "5")},
	},
	"docs/getting-started.md": {
		{begins: "pack build first --builder heroku/builder:24", run: withFirst(answers("Hello from a closure\n"))},
		{begins: "nix-store --generate-binary-cache-key cache.example.org-1 secret-key public-key", run: (*reader).nix},
		{begins: "source=$(nix-store --add-fixed --recursive sha256 source)", run: (*reader).uploads},
		{begins: "[_]", run: (*reader).buildsFromUpload},
	},
	"docs/github-actions.md": {
		{begins: ".github/workflows/image.yml", run: (*reader).workflow},
		{begins: "bindings=$RUNNER_TEMP/bindings", run: (*reader).privateCache},
		{begins: "build:", run: (*reader).workflowJob},
	},
	"docs/gitlab-ci.md": {
		{begins: ".gitlab-ci.yml", run: withSite((*reader).gitlabPublishes)},
		{begins: "image:", run: (*reader).gitlabCreates},
	},
	"docs/heroku.md": {
		{begins: "{ supportedSystems ? [ \"x86_64-linux\" \"aarch64-linux\" ] }:", run: (*reader).jobs},
		{begins: "Procfile", run: (*reader).procfile},
		{begins: "project.toml", run: (*reader).namesKnownSettings},
		{begins: "git push heroku main", run: (*reader).pushes},
		{begins: "pack build \"$REGISTRY/APP/web\" --publish --builder heroku/builder:24 \\", run: withSite((*reader).containerRegistry)},
	},
	"docs/hydra.md": {
		{begins: "BP_NIX_HYDRA_URL=https://hydra.example.org", run: (*reader).settings},
		{begins: "waiting for Hydra to evaluate 3f96280da0eb (Hydra is evaluating it at the moment): " +
			"https://hydra.example.org/jobset/shop/main (at most 30m0s)",
			reason: "lines of a log while Hydra works: roots/hydra's tests of waiting compare them"},
		{begins: "NIX_HYDRA_API_YAML=/path/to/hydra-api.yaml go test ./roots/hydra/hydratest",
			reason: "wants a file of Hydra's own repository; without it the same test runs with what was taken from there"},
	},
	"docs/inspect.md": {
		{begins: "docker save myapp -o myapp.tar", run: withSite((*reader).buildsAndLooks)},
	},
	"docs/kpack.md": {
		{begins: "apiVersion: kpack.io/v1alpha2", run: isSample("kpack/clusterstore.yaml")},
		{begins: "apiVersion: kpack.io/v1alpha2", run: isSample("kpack/clusterbuilder.yaml")},
		{begins: "apiVersion: v1", run: isSample("kpack/secret.yaml")},
		{begins: "apiVersion: kpack.io/v1alpha2", run: isSample("kpack/image-git.yaml")},
		{begins: "apiVersion: kpack.io/v1alpha2", run: isSample("kpack/image-subpath.yaml")},
		{begins: "apiVersion: kpack.io/v1alpha2", run: isSample("kpack/image-blob.yaml")},
		{begins: "kubectl apply -f samples/kpack", reason: "wants a cluster; integration/kpack decodes the same files as " +
			"kpack does and runs its pods"},
	},
	"docs/limits.md": {
		{begins: "docker run --detach --publish 127.0.0.1:5000:5000 registry:2",
			reason: "the image cannot be had; the registry of this test is in its place"},
		{begins: "pack build 127.0.0.1:5000/myapp --publish --network host --builder heroku/builder:24",
			run: withFirst((*reader).localRegistry)},
		{begins: "socat UNIX-LISTEN:engine.sock,fork,user=1000,mode=600 UNIX-CONNECT:/var/run/docker.sock &",
			run: (*reader).ownSocket},
	},
	"docs/relocation.md": {
		{begins: "BP_NIX_HARMLESS='*-nodejs-*/bin/node share/foo/**'", run: (*reader).settings},
		{begins: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0/bin/app", run: (*reader).relocates},
		{begins: "go test -run '^$' -bench Rewrite ./closure/relocate", run: inCheckout(with(" -benchtime 1x"))},
	},
	"docs/standstill.md": {
		{begins: "main.go", run: (*reader).writes},
		{begins: "go.mod", run: (*reader).writes},
		{begins: "held.go", run: (*reader).standsStill},
	},
	"docs/survey.md": {
		{begins: "bin/survey --key cache.example.org-1:… https://cache.example.org /nix/store/…-app", run: (*reader).surveys},
		{begins: "relocates  /nix/store/…-git-2.53.0: 44 paths, 143.2 MB, 611 references",
			reason: "what the command above says; TestSurvey compares such lines"},
		{begins: "scripts/bench survey", reason: "measures for minutes"},
		{begins: "scripts/survey --cache https://cache.nixos.org --channel…", reason: "wants cache.nixos.org and its channels"},
	},
	"docs/tekton.md": {
		{begins: "builder.toml", run: (*reader).builderToml},
		{begins: "pack builder create registry.example.org/builders/nix --config builder.toml --publish", run: (*reader).shell},
		{begins: "apiVersion: tekton.dev/v1", run: (*reader).pipeline},
	},
}

// TestEveryBlockOfTheDocumentationIsRunOrSaysWhyNot compares the pages with what is run of them.
func TestEveryBlockOfTheDocumentationIsRunOrSaysWhyNot(t *testing.T) {
	RegisterTestingT(t)
	all, err := pages.Read("..")
	must(err)
	known := map[string]bool{}
	for _, page := range all {
		known[page.Name] = true
		var has, runs []string
		for _, block := range page.Blocks {
			has = append(has, block.Begin())
		}
		for i, block := range documentation[page.Name] {
			begins := block.begins
			if start, cut := strings.CutSuffix(begins, "…"); cut && i < len(has) && strings.HasPrefix(has[i], start) {
				begins = has[i]
			}
			runs = append(runs, begins)
			if (block.run == nil) == (block.reason == "") {
				t.Errorf("%s: %q has to be run or to have a reason why not", page.Name, block.begins)
			}
		}
		Expect(runs).To(Equal(has), "the blocks of code of %s", page.Name)
	}
	for name := range documentation {
		Expect(known).To(HaveKey(name))
	}
}

// commands are what stands in backquotes in a page's prose and is a command with arguments: which test runs it or the like
// of it, or why none does. A command's name alone, as `docker save`, is a word for what it does.
var commands = map[string]string{
	"go test ./closure/nar -run TestNAR":                                                   "TestNAR",
	"go test ./integration -run TestPack/samples -update":                                  "TestPack",
	"scripts/test -run 'TestPack/samples'":                                                 "TestPack",
	"scripts/release --version 1.2.3-rc.1 --output dist":                                   "TestAReleaseIsReadByOthersAndListsItsOwnFiles",
	"scripts/soak --minutes 10":                                                            "runs for as long as it says; its parts are tests",
	"nix copy --from http://… --to local?root=…":                                           "scripts/bench runs it",
	"docker run -e SSL_CERT_FILE=/nix/store/<hash>-nss-cacert/etc/ssl/certs/ca-bundle.crt": "TestEngines",
	"go test ./integration -run TestFleet":                                                 "TestFleet",
	"go test ./integration -run 'TestEngine|TestEvaluationConfined'":                       "TestEngines",
	"git archive --prefix=source/ HEAD | tar x":                                            "TestDocumentation",
	"pack build myapp --builder heroku/builder:24":                                         "TestDocumentation",
	"heroku spaces:create --space SPACE --team TEAM --generation fir":                      "wants Heroku",
	"heroku create APP --space SPACE":                                                      "wants Heroku",
	"heroku run launcher run_proot.sh myapp console":                                       "wants Heroku; TestHeroku runs such a command by the same launcher",
	"heroku run run_proot.sh myapp console":                                                "wants Heroku; TestHeroku runs such a command by the same launcher",
	"bin/inspect --json IMAGE":                                                             "TestInspect",
	"bin/inspect --html IMAGE > image.html":                                                "TestInspect",
	"bin/inspect why IMAGE PATH":                                                           "TestInspect",
	"bin/inspect diff IMAGE OTHER":                                                         "TestInspect",
	"bin/inspect verify [OPTION]... IMAGE":                                                 "TestInspect",
	"pack sbom download IMAGE":                                                             "TestPackHasEveryFlagOfTheDocumentation",
	"pack build --cache-image":                                                             "TestDocumentation",
	"pack build --no-color":                                                                "TestPackHasEveryFlagOfTheDocumentation",
	"pack build --env GITHUB_SHA --env GITHUB_REPOSITORY":                                  "TestDocumentation",
	"pack build --env BPE_GREETING=hello":                                                  "TestPackOrder",
	"pack build --volume DIR:/workspace/data:rw":                                           "TestPackSource",
	"docker run --volume $PWD:/workspace …/creator":                                        "TestPackSource",
	"heroku create -b https://github.com/ocharles/heroku-buildpack-nix-hydra.git":          "what was done with the original",
	"heroku config:set NIX_EXTRA_BINARY_CACHE=http://hydra.acme.net:3000":                  "what was done with the original",
	"git push heroku master":                                                               "what was done with the original",
	"nix-build $SRC/deploy.nix --option binary-caches $NIX_EXTRA_BINARY_CACHE":             "what the original does",
	"nix-store --add-fixed":                                                                "what the original does",
	"go run . 25s":                                                                         "TestDocumentation",
	"go run . 35s":                                                                         "TestDocumentation",
	"nix-build deploy.nix && PORT=8080 result/bin/python3 server.py":                       "TestDocumentation",
	"nix build && PORT=8080 result/bin/queue-web":                                          "TestDocumentation",
	"docker run --entrypoint worker IMAGE":                                                 "TestPack",
	"nix-build shell.nix && PORT=8080 result/bin/java-web":                                 "TestDocumentation",
	"nix-build shell.nix && PORT=8080 result/bin/node-web":                                 "TestDocumentation",
	"nix-build shell.nix && result/bin/python-web --bind 127.0.0.1:8080":                   "TestDocumentation",
	"nix-build shell.nix && PORT=8080 result/bin/serve-site":                               "TestDocumentation",
	`nix store sign -k KEY -r \<path>`:                                                     "TestDocumentation",
	"pack builder create":                                                                  "TestDocumentation",
	"nix flake check":                                                                      "a name of what Nix's own tests are about",
	"bin/survey CACHE STORE_PATH":                                                          "TestDocumentation",
	`export NIX_CONFIG="extra-experimental-features = nix-command flakes"`:                 "the Nix that tests run has these two features switched on in its nix.conf",
	"skopeo copy --format v2s2 docker://FROM docker://TO":                                  "skopeo's own, from registry to registry",
	"gh attestation verify FILE --owner nixproot":                                          "wants a release",
	"kubectl apply -f samples/kpack":                                                       "wants a cluster; integration/kpack decodes the same files",
}

// TestEveryCommandInTheDocumentationsProseIsRunOrSaysWhyNot compares the pages with commands.
func TestEveryCommandInTheDocumentationsProseIsRunOrSaysWhyNot(t *testing.T) {
	RegisterTestingT(t)
	all, err := pages.Read("..")
	must(err)
	command := regexp.MustCompile(`^(?:[A-Z_]+=\S+ )*(?:scripts/\w+|go (?:test|run|build) |pack (?:build|buildpack|builder|sbom) |` +
		`docker run |git (?:archive|push|clone) |bin/(?:inspect|verify|survey) .|nix(?:-\w+)? .* |export \w+=|(?:skopeo|crane|curl|apt-get|gh) \w|heroku [\w:]+ .|kubectl .)`)
	word := regexp.MustCompile(`^(?:scripts/\w+|[\w/-]+ [\w:-]+|[\w/-]+ (?:run |build )?[A-Z_-]+|go test \S+|docker run (?:--\w+|IMAGE a b|-e)|pack build --\w+|` +
		`scripts/(?:bench|soak)(?: [a-z]+)+|scripts/package --\w+|nix-build --\w+)$`)
	said := map[string]bool{}
	for _, page := range all {
		for _, text := range page.Code() {
			if !command.MatchString(text + " ") {
				continue
			}
			if _, known := commands[text]; known {
				said[text] = true
			} else if !word.MatchString(text) {
				t.Errorf("%s: nothing is said of %q", page.Name, text)
			}
		}
	}
	for text := range commands {
		if !said[text] {
			t.Errorf("no page has %q", text)
		}
	}
}

package hydra

import (
	"strings"
	"testing"
)

// FuzzBuildPage: whatever a page says, there are few failed steps, in clean lines, and links are of this build.
func FuzzBuildPage(f *testing.F) {
	f.Add(`<table><tr><td>3</td><td><tt>/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app</tt></td><td class="x error y">Failed` +
		`<em>error: no</em></td><td><a href="http://h/build/7/step/3/log">log</a></td></tr></table><a href="/build/7/log">`)
	f.Add(`<tr><td><table><tr><td>1<span class=error>Aborted</span>: <em>x`)
	f.Add("<pre>in job ‘app’:\n<tr><td>9<td class='error'>&#27;[2K\r\n")
	f.Fuzz(func(t *testing.T, page string) {
		found, err := readBuildPage(strings.NewReader(page), 7)
		if err != nil || len(found.steps) > explainedSteps {
			t.Fatalf("%d steps, %v", len(found.steps), err)
		}
		for _, step := range found.steps {
			if strings.ContainsAny(step.String(), "\n\r\x1b\x00") || len(step.String()) > 4<<10 {
				t.Fatalf("a step is not one clean line: %q", step)
			}
			if step.LogURL != "" && !strings.HasPrefix(step.LogURL, "/build/7/") {
				t.Fatalf("the log is another build's: %q", step.LogURL)
			}
		}
		if _, err := preformatted(strings.NewReader(page)); err != nil {
			t.Fatal(err)
		}
	})
}

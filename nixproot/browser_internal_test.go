package nixproot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// findBrowser is a browser of this machine; the test is skipped where it has none.
func findBrowser(t *testing.T) string {
	t.Helper()
	for _, each := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(each); err == nil {
			return found
		}
	}
	untested.Skip(t, "the page in a browser, as there is none: apt-get install chromium")
	return ""
}

// browserFlags have a browser show nothing on a screen, ask no network, and keep its files in a directory.
func browserFlags(dir string) []string {
	return []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir=" + filepath.Join(dir, "data"),
		"--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1000,1400", "--enable-logging=stderr",
	}
}

// browserTab is a page in a real browser, which the test uses as a person does and asks as a screen reader does, by
// Chromium's DevTools protocol over a pipe: JSON texts that end with a NUL byte.
type browserTab struct {
	to      *os.File
	from    *bufio.Reader
	session string
	calls   int
}

// openTab opens a file in a new browser, which ends with the test.
func openTab(t *testing.T, file string) *browserTab {
	t.Helper()
	browser, dir := findBrowser(t), t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	commands, to, err := os.Pipe()
	Expect(err).NotTo(HaveOccurred())
	from, answers, err := os.Pipe()
	Expect(err).NotTo(HaveOccurred())
	command := exec.CommandContext(ctx, browser, append(browserFlags(dir), "--remote-debugging-pipe")...)
	command.ExtraFiles, command.WaitDelay = []*os.File{commands, answers}, time.Second
	command.Env = append(os.Environ(), "HOME="+dir)
	Expect(command.Start()).To(Succeed())
	Expect(commands.Close()).To(Succeed())
	Expect(answers.Close()).To(Succeed())
	b := &browserTab{to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		b.call(t, "Browser.close", nil, nil)
		_ = command.Wait()
		cancel()
		_, _ = to.Close(), from.Close()
	})
	var target struct{ TargetID, SessionID string }
	b.call(t, "Target.createTarget", map[string]any{"url": "file://" + file}, &target)
	b.call(t, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	b.call(t, "Page.bringToFront", nil, nil)
	for b.ask(t, "location.protocol + document.readyState") != "file:complete" { // it begins as an empty page
		time.Sleep(10 * time.Millisecond)
	}
	return b
}

// call calls a method of the protocol and reads what it gives; events that come before are passed over.
func (b *browserTab) call(t *testing.T, method string, params map[string]any, result any) {
	t.Helper()
	b.calls++
	message := map[string]any{"id": b.calls, "method": method, "params": params}
	if params == nil {
		delete(message, "params")
	}
	if b.session != "" && method != "Browser.close" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	Expect(err).NotTo(HaveOccurred())
	_, err = b.to.Write(append(text, 0))
	Expect(err).NotTo(HaveOccurred())
	for {
		text, err := b.from.ReadBytes(0)
		Expect(err).NotTo(HaveOccurred())
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
		}
		Expect(json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &answer)).To(Succeed())
		if answer.ID != b.calls {
			continue
		}
		Expect(string(answer.Error)).To(BeEmpty(), method)
		if result != nil {
			Expect(json.Unmarshal(answer.Result, result)).To(Succeed())
		}
		return
	}
}

// ask gives the value of an expression in the page, as text.
func (b *browserTab) ask(t *testing.T, expression string) string {
	t.Helper()
	var answer struct{ Result struct{ Value any } }
	b.call(t, "Runtime.evaluate", map[string]any{"expression": "String(" + expression + ")"}, &answer)
	return fmt.Sprint(answer.Result.Value)
}

// press presses a key and lets it go.
func (b *browserTab) press(t *testing.T, key, text string, code int) {
	t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call(t, "Input.dispatchKeyEvent", map[string]any{
			"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
		}, nil)
		text = ""
	}
}

// names are what a screen reader says of the page, the names by their roles.
func (b *browserTab) names(t *testing.T) map[string][]string {
	t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	b.call(t, "Accessibility.getFullAXTree", nil, &tree)
	names := map[string][]string{}
	for _, node := range tree.Nodes {
		if !node.Ignored {
			role := fmt.Sprint(node.Role.Value)
			names[role] = append(names[role], fmt.Sprint(node.Name.Value))
		}
	}
	return names
}

// contrast is the ratio between the colours of a text and of what lies behind it (WCAG 2.2, contrast ratio).
func (b *browserTab) contrast(t *testing.T, text, behind string) float64 {
	t.Helper()
	const ratio = `(() => {
		const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
		const luminance = colour => {
			canvas.fillStyle = 'Canvas'; canvas.fillRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
			const [r, g, b] = Array.from(canvas.getImageData(0, 0, 1, 1).data).map(c => (c /= 255) <= .04045 ? c / 12.92 :
				((c + .055) / 1.055) ** 2.4);
			return .2126 * r + .7152 * g + .0722 * b;
		};
		const dark = matchMedia('(prefers-color-scheme: dark)').matches;
		let back = getComputedStyle(document.querySelector(%q)).backgroundColor;
		if (back === 'rgba(0, 0, 0, 0)') back = dark ? '#121212' : '#fff';
		const [x, y] = [luminance(getComputedStyle(document.querySelector(%q)).color), luminance(back)];
		return (Math.max(x, y) + .05) / (Math.min(x, y) + .05);
	})()`
	var value float64
	_, err := fmt.Sscan(b.ask(t, fmt.Sprintf(ratio, behind, text)), &value)
	Expect(err).NotTo(HaveOccurred())
	return value
}

package nixproot

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestBindingsMayHave64MiBTogether(t *testing.T) {
	g := NewWithT(t)
	dir := t.TempDir()
	for i, name := range []string{"a", "b"} {
		g.Expect(os.Mkdir(filepath.Join(dir, name), 0o755)).To(Succeed())
		g.Expect(os.WriteFile(filepath.Join(dir, name, "x"), nil, 0o644)).To(Succeed())
		g.Expect(os.Truncate(filepath.Join(dir, name, "x"), 32<<20)).To(Succeed(), i)
	}
	g.Expect(checkBindings(dir)).To(Succeed())
	g.Expect(os.Truncate(filepath.Join(dir, "b/x"), 32<<20+1)).To(Succeed())
	g.Expect(checkBindings(dir)).To(MatchError(ContainSubstring("more than 67108864 bytes")))
}

func TestASecretIsHiddenFromEightBytes(t *testing.T) {
	g := NewWithT(t)
	var out bytes.Buffer
	hiding := newRedacting(&out, map[string]string{"A_TOKEN": "12345678", "B_TOKEN": "abcdefg"})
	g.Expect(hiding.text("12345678 abcdefg")).To(Equal(hidden + " abcdefg"))
}

func TestALineIsWaitedForUpTo64KiB(t *testing.T) {
	g := NewWithT(t)
	var out bytes.Buffer
	lines := &wholeLines{to: &out}
	_, err := lines.Write(bytes.Repeat([]byte("x"), 64<<10-1))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(out.Len()).To(BeZero())
	_, err = lines.Write([]byte("x"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(out.Len()).To(Equal(64 << 10))
}

func TestOfAScriptAsMuchIsReadAsTheKernelDoes(t *testing.T) {
	g := NewWithT(t)
	file := filepath.Join(t.TempDir(), "script")
	interpreter := func(length int) string {
		text := "#!" + strings.Repeat(" ", length-len("#!/bin/sh")) + "/bin/sh"
		g.Expect(os.WriteFile(file, []byte(text+"\n"), 0o644)).To(Succeed())
		_, by, err := programFile(file)
		g.Expect(err).NotTo(HaveOccurred())
		return by
	}
	g.Expect(interpreter(256)).To(Equal("/bin/sh"))
	g.Expect(interpreter(257)).To(Equal("/bin/s"))
}

package relocate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/internal/untested"
)

// testInstalled relocates what the programs that are installed here make, and lets them read it.
func testInstalled(t *testing.T, _ spec.G, it spec.S) {
	it.Before(func() { RegisterTestingT(t) })

	need := func(programs ...string) {
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				untested.Skip(t, "there is no %s here", p)
			}
		}
	}
	run := func(dir, program string, args ...string) string {
		c := exec.Command(program, args...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), "%s %v: %s", program, args, out)
		return strings.TrimSpace(string(out))
	}
	read := func(name string) string {
		b, err := os.ReadFile(name)
		Expect(err).NotTo(HaveOccurred())
		return string(b)
	}

	it("Node.js starts from an app's snapshot that was relocated", func() {
		need("node")
		dir := t.TempDir()
		entry := "globalThis.where = '" + string(self) + "/bin/app'; const m = new Map([[globalThis.where, 7]]);" +
			"require('v8').startupSnapshot.setDeserializeMainFunction(() => console.log(globalThis.where, m.get(globalThis.where)));"
		Expect(os.WriteFile(filepath.Join(dir, "entry.js"), []byte(entry), 0o644)).To(Succeed())
		run(dir, "node", "--snapshot-blob", "app.blob", "--build-snapshot", "entry.js")
		tree, report := fixedTree(t, regular("app.blob", read(filepath.Join(dir, "app.blob"))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(run(tree, "node", "--snapshot-blob", "app.blob", "main.js")).To(Equal(selfNow + "/bin/app 7"))
	})

	it("Java runs a jar that names a store path in its classes and resources", func() {
		need("javac", "jar", "java")
		dir := t.TempDir()
		source := "public class A { public static void main(String[] a) throws Exception {" +
			"System.out.println(\"" + string(self) + "/x\" + new String(A.class.getResourceAsStream(\"/r.txt\").readAllBytes())); } }"
		Expect(os.WriteFile(filepath.Join(dir, "A.java"), []byte(source), 0o644)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "r.txt"), []byte(strings.Repeat(string(dep)+"\n", 3)), 0o644)).To(Succeed())
		run(dir, "javac", "A.java")
		run(dir, "jar", "cfe", "app.jar", "A", "A.class", "r.txt")
		tree, report := fixedTree(t, regular("app.jar", read(filepath.Join(dir, "app.jar"))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(run(tree, "java", "-jar", "app.jar")).To(Equal(selfNow + "/x" + strings.TrimSpace(strings.Repeat(depNow+"\n", 3))))
	})

	it("Java finds the case of a switch over store paths", func() {
		need("javac", "java")
		dir := t.TempDir()
		source := "public class A { public static void main(String[] a) { for (String s : a) { switch (s) { case \"" + string(self) +
			"/x\": System.out.print(1); break; case \"" + string(dep) + "\": System.out.print(2); break; case \"z\": System.out.print(3); } } } }"
		Expect(os.WriteFile(filepath.Join(dir, "A.java"), []byte(source), 0o644)).To(Succeed())
		run(dir, "javac", "A.java")
		tree, report := fixedTree(t, regular("A.class", read(filepath.Join(dir, "A.class"))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(run(tree, "java", "-cp", tree, "A", "z", depNow, string(dep), selfNow+"/x", selfNow)).To(Equal("321"))
	})

	it("zip and Python read archives that were relocated", func() {
		need("zip", "unzip", "python3")
		dir := t.TempDir()
		Expect(os.MkdirAll(filepath.Join(dir, "m"), 0o755)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "m/__main__.py"), []byte("print('"+string(self)+"')\n"), 0o644)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(dir, "m/data"), []byte(noise(30000)+script+noise(3000)), 0o644)).To(Succeed())
		run(dir, "python3", "-m", "zipapp", "m", "-c", "-p", string(dep)+"/bin/python", "-o", "a.pyz")
		run(dir, "zip", "-r", "a.zip", "m")
		tree, report := fixedTree(t, regular("a.pyz", read(filepath.Join(dir, "a.pyz"))), regular("a.zip", read(filepath.Join(dir, "a.zip"))))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		Expect(run(tree, "python3", "a.pyz")).To(Equal(selfNow))
		run(tree, "unzip", "-tqq", "a.zip")
		Expect(read(filepath.Join(tree, "a.pyz"))).To(HavePrefix("#!" + depNow + "/bin/python\n"))
	})

	it("zip and Python read members whose sizes stand in fields of 64 bits", func() {
		need("zip", "unzip", "python3")
		dir := t.TempDir()
		Expect(os.WriteFile(filepath.Join(dir, "data"), []byte(noise(30000)+strings.Repeat(script, 30)+noise(3000)), 0o644)).To(Succeed())
		run(dir, "sh", "-c", "zip -q piped.zip - <data")
		run(dir, "sh", "-c", "zip -q - - <data | cat >streamed.zip")
		run(dir, "python3", "-c", `import sys, zipfile
class Pipe:
    def __init__(self, f): self.f = f
    def write(self, b): return self.f.write(b)
    def flush(self): pass
for name, wrap in ("forced.zip", lambda f: f), ("unseekable.zip", Pipe):
    with open(name, "wb") as f, zipfile.ZipFile(wrap(f), "w", zipfile.ZIP_DEFLATED) as z, z.open("-", "w", force_zip64=True) as m:
        m.write(open("data", "rb").read())`)
		var files []file
		for _, name := range []string{"forced.zip", "piped.zip", "streamed.zip", "unseekable.zip"} {
			files = append(files, regular(name, read(filepath.Join(dir, name))))
		}
		tree, report := fixedTree(t, files...)
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		for _, f := range files {
			run(tree, "unzip", "-tqq", f.Path)
			Expect(unzipped(read(filepath.Join(tree, f.Path)))["-"]).To(Equal(strings.ReplaceAll(read(filepath.Join(dir, "data")), string(self), selfNow)), f.Path)
		}
	})

	it("compressors read what was compressed anew", func() {
		need("gzip", "xz", "zstd")
		tree, report := fixedTree(t, regular("a.gz", gzipped(script)), regular("a.xz", decoded(scriptXZ)), regular("a.zst", zstandard(script)))
		Expect(report.Relocatable()).To(BeTrue(), "%v", report.Blockers)
		for program, name := range map[string]string{"gzip": "a.gz", "xz": "a.xz", "zstd": "a.zst"} {
			Expect(run(tree, program, "-dc", name)).To(Equal("exec " + selfNow + "/bin/app"))
		}
	})
}
